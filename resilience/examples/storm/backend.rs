//! The backend: endpoints with a few workers each and a bounded queue before them.
//!
//! It works on what it has accepted, whether or not somebody still waits for the answer: this is what makes a storm
//! outlive its cause. Slow for a while, each call takes several times as long.

use std::collections::VecDeque;
use std::time::Duration;

use crate::simulation::{ENDPOINTS, FAULT};

const WORKERS: u32 = 5;
const QUEUE: usize = 250;
const SERVICE: Duration = Duration::from_millis(40);
const SLOWDOWN: u32 = 4;

/// Calls that all endpoints together can answer in a second.
pub(crate) const CAPACITY: f64 =
    (ENDPOINTS as u32 * WORKERS) as f64 * 1000.0 / SERVICE.as_millis() as f64;

/// One try of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) request: usize,
    pub(crate) attempt: u32,
}

/// What an endpoint does with a call.
pub(crate) enum Offered {
    /// Works on it: done after this time.
    Started(Duration),
    Queued,
    /// 503 at once.
    Refused,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Endpoint {
    busy: u32,
    queue: VecDeque<Call>,
}

// === impl Endpoint ===

impl Endpoint {
    pub(crate) fn offer(&mut self, call: Call, since_start: Duration) -> Offered {
        if self.busy < WORKERS {
            self.busy += 1;
            return Offered::Started(service_time(since_start));
        }
        if self.queue.len() == QUEUE {
            return Offered::Refused;
        }
        self.queue.push_back(call);
        Offered::Queued
    }

    /// A worker is done: the call that it takes next, and how long for.
    pub(crate) fn next(&mut self, since_start: Duration) -> Option<(Call, Duration)> {
        let next = self.queue.pop_front();
        if next.is_none() {
            self.busy -= 1;
        }
        next.map(|call| (call, service_time(since_start)))
    }
}

fn service_time(since_start: Duration) -> Duration {
    if FAULT.contains(&since_start.as_secs()) {
        SERVICE * SLOWDOWN
    } else {
        SERVICE
    }
}
