//! A canary on trial: who goes to it, how it is judged, and that it gets nothing more once it is found worse.
//!
//! The verdict is asked for as answers come, every few of them, so it falls the moment there are enough; it is
//! final for this canary map. Another chance is a changed map, or `switch ROUTE --back`.

use std::sync::atomic::{
    AtomicBool, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use std::time::{Duration, SystemTime};

use mesh_config::model::{self, ConditionField};
use parking_lot::Mutex;
use resilience::canary::{Judge, Side, Terms, Verdict, Why};

use super::sticky::cookie;
use crate::edge::Head;

/// Answers between two looks at the verdict: few enough that no more than a handful go to a bad canary
/// after there are enough of them.
const LOOK_EVERY: u32 = 8;

/// The trial of one canary of one route.
#[derive(Debug)]
pub(crate) struct Trial {
    route: String,
    config: model::Canary,
    judge: Judge,
    answers: AtomicU32,
    over: AtomicBool,
    sentence: Mutex<Option<Sentence>>,
}

/// Why and when a canary was taken back.
#[derive(Debug, Clone)]
pub(crate) struct Sentence {
    pub(crate) why: Why,
    pub(crate) at: SystemTime,
}

impl Trial {
    pub(super) fn new(route: &model::RouteName, config: &model::Canary) -> Self {
        Self {
            route: route.as_str().to_owned(),
            config: config.clone(),
            judge: Judge::new(terms(config)),
            answers: AtomicU32::new(0),
            over: AtomicBool::new(false),
            sentence: Mutex::new(None),
        }
    }

    /// Whether it is the trial of this canary.
    pub(super) fn is_of(&self, config: &model::Canary) -> bool {
        self.config == *config
    }

    /// Whether this request always goes to the canary, as long as it is not taken back.
    pub(super) fn wants(&self, head: &Head) -> bool {
        let holds = |condition: &model::FieldCondition| match &condition.field {
            ConditionField::Header(name) => {
                let mut lines = head
                    .headers()
                    .filter(|(field, _)| *field == name.as_bytes());
                lines.any(|(_, value)| condition.value.matches(Some(value)))
            }
            ConditionField::Cookie(name) => {
                let value = cookie(head, name);
                value.is_some_and(|value| condition.value.matches(Some(value)))
            }
        };
        !self.config.when.is_empty() && !self.is_over() && self.config.when.iter().any(holds)
    }

    /// Whether it was taken back.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Acquire)
    }

    /// Why it was taken back.
    pub(crate) fn sentence(&self) -> Option<Sentence> {
        self.sentence.lock().clone()
    }

    /// An answer of the canary or of a sibling.
    pub(super) fn record(&self, side: Side, failed: bool, latency: Duration) {
        if self.is_over() {
            return;
        }
        self.judge.record(side, failed, latency);
        if self
            .answers
            .fetch_add(1, Relaxed)
            .is_multiple_of(LOOK_EVERY)
            && let Verdict::Worse(why) = self.judge.verdict()
        {
            self.end(why);
        }
    }

    /// Another chance: what was seen is forgotten.
    pub(super) fn again(&self) {
        self.judge.forget();
        *self.sentence.lock() = None;
        if self.over.swap(false, AcqRel) {
            let (route, cluster) = (&self.route, self.config.cluster.as_str());
            tracing::info!(%route, %cluster, "a canary that was taken back has another chance");
        }
    }

    fn end(&self, why: Why) {
        let at = SystemTime::now();
        let mut sentence = self.sentence.lock();
        if self.over.swap(true, AcqRel) {
            return;
        }
        *sentence = Some(Sentence { why, at });
        let (route, cluster) = (&self.route, self.config.cluster.as_str());
        tracing::warn!(
            %route, %cluster, %why,
            "a canary is worse than its siblings and is taken back: it gets no more requests"
        );
    }
}

fn terms(config: &model::Canary) -> Terms {
    Terms {
        max_error_ratio_over: config.max_error_ratio_over.map(model::Share::ratio),
        max_p99_over: config.max_p99_over.map(model::Share::ratio),
        min_requests: config.min_requests.get(),
    }
}
