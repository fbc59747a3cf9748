//! What checks that an endpoint passes or fails make of it, and when the next one is due.
//!
//! ```text
//! New --passed--> Passing --`unhealthy` failures in a row--> Failing
//!  `---failed-------------------------------------------------^ `--`healthy` passes in a row--> Passing
//! ```
//!
//! Refused: a clock, randomness and the check itself. The caller says what came of one, and waits as it is told.

use std::num::NonZeroU32;
use std::time::Duration;

/// A doubt is settled in this part of the interval.
const IN_DOUBT: u32 = 10;
/// Waits are the interval give or take this share of it.
const SPREAD: f64 = 0.2;

/// When an endpoint is in, when it is out, and how often it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Passes in a row that bring it back.
    pub healthy: NonZeroU32,
    /// Failures in a row that take it out.
    pub unhealthy: NonZeroU32,
    /// Between checks.
    pub interval: Duration,
}

/// What the checks so far say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has not been checked yet.
    New,
    /// It is well.
    Passing,
    /// It is not.
    Failing,
}

/// The record of one endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Checked {
    state: State,
    /// Checks in a row that say something else than the state does.
    against: u32,
    /// Checks so far; only whether it is the first is of interest.
    checks: u32,
}

// === impl Checked ===

impl Checked {
    /// Of an endpoint that nobody knows.
    #[must_use]
    pub const fn new() -> Self {
        Self::begin(State::New)
    }

    /// Of one that has been in use without checks: it takes `unhealthy` of them to say otherwise.
    #[must_use]
    pub const fn in_use() -> Self {
        Self::begin(State::Passing)
    }

    const fn begin(state: State) -> Self {
        Self {
            state,
            against: 0,
            checks: 0,
        }
    }

    /// What the checks so far say.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Checks in a row that say something else.
    #[must_use]
    pub fn against(&self) -> u32 {
        self.against
    }

    /// Other questions are asked, or counted otherwise, from now on: the state stays, doubts about it do not.
    pub fn asked_anew(&mut self) {
        (self.against, self.checks) = (0, 0);
    }

    /// A check has ended. The new state, if it is another one.
    pub fn record(&mut self, passed: bool, rules: &Rules) -> Option<State> {
        self.checks = self.checks.saturating_add(1);
        let (now, needed) = if passed {
            (State::Passing, rules.healthy)
        } else {
            (State::Failing, rules.unhealthy)
        };
        if self.state == now {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        if self.state != State::New && self.against < needed.get() {
            return None;
        }
        (self.state, self.against) = (now, 0);
        Some(now)
    }

    /// How long to wait before the next check. `random` is one of 0 to 1, another one each time.
    #[must_use]
    pub fn wait(&self, rules: &Rules, random: f64) -> Duration {
        let interval = rules.interval;
        let spread = 1.0 - SPREAD + 2.0 * SPREAD * random;
        match self.state {
            State::Passing if self.against > 0 => interval.mul_f64(spread) / IN_DOUBT,
            // Endpoints that were first checked together are never again.
            _ if self.checks <= 1 => interval.mul_f64(random),
            _ => interval.mul_f64(spread),
        }
    }
}

impl Default for Checked {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);

    fn rules(healthy: u32, unhealthy: u32) -> Rules {
        Rules {
            healthy: NonZeroU32::new(healthy).unwrap(),
            unhealthy: NonZeroU32::new(unhealthy).unwrap(),
            interval: INTERVAL,
        }
    }

    fn run(checked: &mut Checked, rules: &Rules, checks: &str) -> Vec<Option<State>> {
        let passed = checks.bytes().map(|check| check == b'+');
        passed.map(|passed| checked.record(passed, rules)).collect()
    }

    #[test]
    fn the_first_check_decides_alone() {
        let (mut well, mut ill) = (Checked::new(), Checked::new());
        assert_eq!(well.record(true, &rules(5, 5)), Some(State::Passing));
        assert_eq!(ill.record(false, &rules(5, 5)), Some(State::Failing));
    }

    #[test]
    fn thresholds_count_in_a_row() {
        let rules = rules(3, 2);
        let mut checked = Checked::in_use();
        assert_eq!(run(&mut checked, &rules, "-+-+-+"), [None; 6]);
        assert_eq!(
            run(&mut checked, &rules, "--"),
            [None, Some(State::Failing)]
        );
        assert_eq!(run(&mut checked, &rules, "++-++"), [None; 5]);
        assert_eq!(run(&mut checked, &rules, "+"), [Some(State::Passing)]);
        assert_eq!(checked.state(), State::Passing);
    }

    #[test]
    fn other_questions_leave_the_state_and_no_doubt() {
        let rules = rules(2, 2);
        let mut checked = Checked::in_use();
        assert_eq!(checked.record(false, &rules), None);
        checked.asked_anew();
        assert_eq!((checked.state(), checked.against()), (State::Passing, 0));
        assert_eq!(
            run(&mut checked, &rules, "--"),
            [None, Some(State::Failing)]
        );
        checked.asked_anew();
        assert_eq!(checked.state(), State::Failing);
    }

    #[test]
    fn a_failure_of_one_that_is_in_is_looked_into_soon() {
        let rules = rules(2, 3);
        let mut checked = Checked::in_use();
        run(&mut checked, &rules, "++");
        let usual = |wait| (INTERVAL.mul_f64(0.79)..INTERVAL.mul_f64(1.21)).contains(&wait);
        assert!(usual(checked.wait(&rules, 0.0)) && usual(checked.wait(&rules, 1.0)));
        run(&mut checked, &rules, "-");
        assert_eq!(checked.wait(&rules, 0.5), INTERVAL / 10);
        run(&mut checked, &rules, "--");
        assert_eq!(checked.state(), State::Failing);
        assert!(usual(checked.wait(&rules, 0.5)));
        // On the way back it keeps its pace: it is to prove that it lasts.
        run(&mut checked, &rules, "+");
        assert!(usual(checked.wait(&rules, 0.5)));
    }

    #[test]
    fn the_wait_after_the_first_is_any_part_of_the_interval() {
        let rules = rules(2, 2);
        let mut checked = Checked::new();
        checked.record(true, &rules);
        assert_eq!(checked.wait(&rules, 0.0), Duration::ZERO);
        assert_eq!(checked.wait(&rules, 0.25), INTERVAL / 4);
        checked.record(true, &rules);
        assert_eq!(checked.wait(&rules, 0.5), INTERVAL);
    }
}
