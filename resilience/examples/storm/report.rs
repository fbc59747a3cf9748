//! The table: what the backend had to bear, what clients got, and how long after the fault that lasted.

use std::fmt::Write;
use std::ops::Range;

use crate::simulation::{FAULT, LENGTH, Run, Second};

/// Answered requests are back to normal when a second has this share of its requests, and all later ones too.
const NORMAL: f64 = 0.95;

/// As Markdown, so that documents can quote it.
pub(crate) fn table(runs: &[Run]) -> String {
    let mut table = String::from(
        "| | tries per request, in the fault | after it | most tries in a second | wasted answers \
         | requests answered, in the fault | in the 20 s after it | normal again |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let after = FAULT.end..FAULT.end + 20;
    for run in runs {
        let normal_again = match run.normal_again() {
            Some(seconds) => format!("after {seconds} s"),
            None => format!("not within {} s", LENGTH - FAULT.end),
        };
        let _to_a_string = writeln!(
            table,
            "| {} | {:.2} | {:.2} | {} | {} | {:.0}% | {:.0}% | {normal_again} |",
            run.name,
            run.tries_per_request(FAULT),
            run.tries_per_request(after.clone()),
            run.most_tries(),
            run.count(0..LENGTH, |second| second.wasted),
            100.0 * run.answered(FAULT),
            100.0 * run.answered(after.clone()),
        );
    }
    table
}

// === impl Run ===

impl Run {
    pub(crate) fn count(&self, seconds: Range<u64>, of: impl Fn(&Second) -> u64) -> u64 {
        let seconds = seconds.start as usize..seconds.end as usize;
        self.seconds[seconds].iter().map(of).sum()
    }

    pub(crate) fn tries_per_request(&self, seconds: Range<u64>) -> f64 {
        let tries = self.count(seconds.clone(), |second| second.tries);
        tries as f64 / self.count(seconds, |second| second.requests) as f64
    }

    /// The share of the requests that were answered in time.
    pub(crate) fn answered(&self, seconds: Range<u64>) -> f64 {
        let answered = self.count(seconds.clone(), |second| second.answered);
        answered as f64 / self.count(seconds, |second| second.requests) as f64
    }

    fn most_tries(&self) -> u64 {
        let tries = self.seconds.iter().map(|second| second.tries);
        tries.max().unwrap_or_default()
    }

    /// Seconds from the end of the fault until the answers are back to normal for good.
    pub(crate) fn normal_again(&self) -> Option<u64> {
        let normal = |second: u64| self.answered(second..second + 1) >= NORMAL;
        let last_bad = (FAULT.end..LENGTH).rev().find(|second| !normal(*second));
        let since = last_bad.map_or(FAULT.end, |second| second + 1);
        (since < LENGTH).then(|| since - FAULT.end)
    }
}
