//! A canary on trial: who goes to it, how it is judged, and that it gets nothing more once it is found worse.
//!
//! The verdict is asked for as answers come, every few of them, so it falls the moment there are enough; it is
//! final for this canary map, through reloads and restarts. Another chance is a changed map, or `switch ROUTE --back`.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use std::time::{Duration, SystemTime};

use mesh_config::model::{self, ConditionField};
use parking_lot::Mutex;
use resilience::canary::{Judge, Side, Terms, Verdict, Why};

use super::sticky::cookie;
use super::verdicts::Verdicts;
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
    verdicts: Arc<Verdicts>,
}

/// Why and when a canary was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sentence {
    pub(crate) why: Arc<str>,
    /// As people write it.
    pub(crate) at: Arc<str>,
}

impl Trial {
    /// The trial of a canary, which is over if the verdict has been kept.
    pub(super) fn new(
        route: &model::RouteName,
        config: &model::Canary,
        verdicts: Arc<Verdicts>,
    ) -> Self {
        let route = route.as_str().to_owned();
        let sentence = verdicts.of(&route, config);
        if let Some(Sentence { why, at }) = &sentence {
            let cluster = config.cluster.as_str();
            tracing::warn!(%route, %cluster, %why, %at, "a canary was taken back before, and gets no requests");
        }
        Self {
            route,
            config: config.clone(),
            judge: Judge::new(terms(config)),
            answers: AtomicU32::new(0),
            over: AtomicBool::new(sentence.is_some()),
            sentence: Mutex::new(sentence),
            verdicts,
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
        self.verdicts.forget(&self.route);
        if self.over.swap(false, AcqRel) {
            let (route, cluster) = (&self.route, self.config.cluster.as_str());
            tracing::info!(%route, %cluster, "a canary that was taken back has another chance");
        }
    }

    fn end(&self, why: Why) {
        let mut sentence = self.sentence.lock();
        if self.over.swap(true, AcqRel) {
            return;
        }
        let found = Sentence {
            why: why.to_string().into(),
            at: mesh_config::rfc3339(SystemTime::now()).into(),
        };
        *sentence = Some(found.clone());
        drop(sentence);
        self.verdicts.keep(&self.route, &self.config, found);
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn trial(when: &[(&str, &str)]) -> Trial {
        let yaml = "clusters: [{ name: new, protocol: http1, endpoints: { static: [\"127.0.0.1:1\"] } }]\n\
                    routes: [{ name: r, match: { path_prefix: / }, to: new }]\n";
        let snapshot = mesh_config::parse(yaml, std::path::Path::new("."), "test").unwrap();
        let when = when.iter().map(|(name, value)| model::FieldCondition {
            field: ConditionField::Header((*name).to_owned()),
            value: model::ValueMatch::Exact((*value).to_owned()),
        });
        let canary = model::Canary {
            cluster: snapshot.clusters[0].name.clone(),
            share: None,
            max_error_ratio_over: Some(model::Share::from_percent::<5>()),
            max_p99_over: None,
            min_requests: NonZeroU32::new(20).unwrap(),
            when: when.collect(),
        };
        Trial::new(&snapshot.routes[0].name, &canary, Arc::default())
    }

    fn answers(trial: &Trial, count: usize, canary_fails: bool) {
        for _ in 0..count {
            trial.record(Side::Canary, canary_fails, Duration::from_millis(1));
            trial.record(Side::Sibling, false, Duration::from_millis(1));
        }
    }

    #[test]
    fn a_verdict_is_final_until_there_is_another_chance() {
        let trial = trial(&[]);
        answers(&trial, 19, true);
        assert!(!trial.is_over(), "too few");
        answers(&trial, 5, true);
        assert!(trial.is_over() && trial.sentence().is_some());
        answers(&trial, 1000, false);
        assert!(trial.is_over(), "it is not asked again");
        trial.again();
        assert!(!trial.is_over() && trial.sentence().is_none());
        answers(&trial, 100, false);
        assert!(!trial.is_over(), "what was before is forgotten");
    }

    #[test]
    fn requests_are_selected_while_it_is_on_trial() {
        let trial = trial(&[("x-canary", "yes"), ("x-tester", "1")]);
        let head = |name: &str, value: &str| {
            Head::of(
                &http::Request::get("/")
                    .header(name, value)
                    .body(())
                    .unwrap(),
            )
        };
        assert!(trial.wants(&head("x-canary", "yes")) && trial.wants(&head("x-tester", "1")));
        assert!(!trial.wants(&head("x-canary", "1")) && !trial.wants(&head("x-other", "yes")));
        answers(&trial, 50, true);
        assert!(!trial.wants(&head("x-canary", "yes")));
    }
}
