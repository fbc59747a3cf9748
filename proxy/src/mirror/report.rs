//! What mirrors have found out: counts for metrics, and the latest differences for people.
//!
//! Kept by route and cluster, so that a reload goes on counting. Refused: whole answers, which may hold what
//! nobody should keep; a difference is a path and two shortened values, and only the admin port shows them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::compare::Difference;

/// Requests whose differences are kept for each mirror.
const KEPT: usize = 20;
/// How long a log line about differences stands for those after it.
const QUIET: Duration = Duration::from_secs(10);

/// The mirrors of all routes.
#[derive(Debug, Default)]
pub(crate) struct Mirrors(Mutex<BTreeMap<Key, Arc<Report>>>);

/// Route and cluster.
type Key = (Arc<str>, Arc<str>);

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copied {
    /// The mirror answered.
    Answered,
    /// The mirror did not answer.
    Failed,
    /// Too many copies were under way already, or the request was too large to be copied.
    Dropped,
}

/// What one mirror has found out.
#[derive(Debug)]
pub(crate) struct Report {
    route: Arc<str>,
    cluster: Arc<str>,
    copies: [AtomicU64; 3],
    same: AtomicU64,
    different: AtomicU64,
    in_flight: AtomicUsize,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    requests: VecDeque<Found>,
    quiet_until: Option<Instant>,
    untold: u64,
}

/// A request that was answered in two ways.
#[derive(Debug)]
struct Found {
    at: SystemTime,
    method: String,
    path: String,
    differences: Vec<Difference>,
}

// === impl Mirrors ===

impl Mirrors {
    /// The report of a route's mirror: the one that stands already, or a new one.
    pub(crate) fn report(&self, route: &Arc<str>, cluster: &Arc<str>) -> Arc<Report> {
        let key = (Arc::clone(route), Arc::clone(cluster));
        let report = || Arc::new(Report::new(route, cluster));
        self.0.lock().entry(key).or_insert_with(report).clone()
    }

    /// All reports, for people and scripts.
    pub(crate) fn json(&self) -> Value {
        self.0.lock().values().map(|report| report.json()).collect()
    }
}

impl Collector for Mirrors {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "highpress_mirrored",
            "Copies of requests sent to mirrors, by what became of them",
            None,
            MetricType::Counter,
        )?;
        let reports: Vec<_> = self.0.lock().values().cloned().collect();
        for report in &reports {
            for (result, count) in report.copies() {
                let labels = report.labels(result);
                let mut metric = family.encode_family(&labels)?;
                metric.encode_counter::<[(&str, &str); 0], _, u64>(&count, None)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "highpress_mirror_compared",
            "Answers of mirrors that were compared with what the caller got",
            None,
            MetricType::Counter,
        )?;
        for report in &reports {
            for (result, count) in report.compared() {
                let labels = report.labels(result);
                let mut metric = family.encode_family(&labels)?;
                metric.encode_counter::<[(&str, &str); 0], _, u64>(&count, None)?;
            }
        }
        Ok(())
    }
}

// === impl Report ===

impl Report {
    fn new(route: &Arc<str>, cluster: &Arc<str>) -> Self {
        Self {
            route: Arc::clone(route),
            cluster: Arc::clone(cluster),
            copies: Default::default(),
            same: AtomicU64::new(0),
            different: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            recent: Mutex::default(),
        }
    }

    /// One more copy under way, if there are fewer than `most`.
    pub(crate) fn start(self: &Arc<Self>, most: usize) -> Option<UnderWay> {
        let free = |now| (now < most).then_some(now + 1);
        match self.in_flight.fetch_update(Relaxed, Relaxed, free) {
            Ok(_) => Some(UnderWay(Arc::clone(self))),
            Err(_) => {
                self.copied(Copied::Dropped);
                None
            }
        }
    }

    pub(crate) fn copied(&self, copied: Copied) {
        self.copies[copied as usize].fetch_add(1, Relaxed);
    }

    fn compared(&self) -> [(&'static str, u64); 2] {
        [
            ("same", self.same.load(Relaxed)),
            ("different", self.different.load(Relaxed)),
        ]
    }

    fn copies(&self) -> [(&'static str, u64); 3] {
        let count = |copied: Copied| self.copies[copied as usize].load(Relaxed);
        [
            ("answered", count(Copied::Answered)),
            ("failed", count(Copied::Failed)),
            ("dropped", count(Copied::Dropped)),
        ]
    }

    fn labels(&self, result: &'static str) -> [(&'static str, &str); 3] {
        [
            ("route", &*self.route),
            ("cluster", &*self.cluster),
            ("result", result),
        ]
    }

    /// Takes what a comparison found.
    pub(crate) fn found(&self, method: &str, path: &str, differences: Vec<Difference>) {
        let Some(first) = differences.first() else {
            self.same.fetch_add(1, Relaxed);
            return;
        };
        self.different.fetch_add(1, Relaxed);
        let mut recent = self.recent.lock();
        recent.untold += 1;
        let now = Instant::now();
        if recent.quiet_until.is_none_or(|until| now >= until) {
            tracing::warn!(
                route = %self.route, mirror = %self.cluster, method, path, at = first.path,
                since_last_line = recent.untold, "the mirror answers differently; see /mirrors on the admin port"
            );
            recent.quiet_until = Some(now + QUIET);
            recent.untold = 0;
        }
        recent.requests.truncate(KEPT - 1);
        recent.requests.push_front(Found {
            at: SystemTime::now(),
            method: method.to_owned(),
            path: path.to_owned(),
            differences,
        });
    }

    fn json(&self) -> Value {
        let differences = |found: &Found| -> Value {
            let difference = |difference: &Difference| json!({ "at": difference.path, "answered": difference.answered, "mirrored": difference.mirrored });
            found.differences.iter().map(difference).collect()
        };
        let recent: Vec<Value> = self
            .recent
            .lock()
            .requests
            .iter()
            .map(|found| {
                let at = found.at.duration_since(UNIX_EPOCH).unwrap_or_default();
                json!({ "unix_time": at.as_secs(), "method": found.method, "path": found.path, "differences": differences(found) })
            })
            .collect();
        let counts = |counts: &[(&str, u64)]| -> Value {
            let entries = counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), json!(count)));
            Value::Object(entries.collect())
        };
        json!({
            "route": &*self.route, "cluster": &*self.cluster, "in_flight": self.in_flight.load(Relaxed),
            "copies": counts(&self.copies()), "compared": counts(&self.compared()), "recent": recent,
        })
    }
}

/// A copy that is under way.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Report>);

impl UnderWay {
    pub(crate) fn report(&self) -> &Report {
        &self.0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn difference(path: &str) -> Difference {
        Difference {
            path: path.to_owned(),
            answered: "1".to_owned(),
            mirrored: "2".to_owned(),
        }
    }

    #[test]
    fn only_the_latest_differences_are_kept() {
        let mirrors = Mirrors::default();
        let report = mirrors.report(&"r".into(), &"old".into());
        report.found("GET", "/same", Vec::new());
        for number in 0..KEPT + 5 {
            report.found("GET", &format!("/{number}"), vec![difference("data")]);
        }
        let json = mirrors.json();
        let recent = json[0]["recent"].as_array().unwrap();
        assert_eq!(recent.len(), KEPT);
        assert_eq!(recent[0]["path"], format!("/{}", KEPT + 4));
        assert_eq!(
            json[0]["compared"],
            json!({ "same": 1, "different": KEPT + 5 })
        );
    }

    #[test]
    fn copies_are_bounded_and_given_back() {
        let mirrors = Mirrors::default();
        let report = mirrors.report(&"r".into(), &"old".into());
        let first = report.start(1).unwrap();
        assert!(report.start(1).is_none());
        drop(first);
        assert!(report.start(1).is_some());
        assert!(Arc::ptr_eq(
            &report,
            &mirrors.report(&"r".into(), &"old".into())
        ));
        assert_eq!(report.copies()[2], ("dropped", 1));
    }
}
