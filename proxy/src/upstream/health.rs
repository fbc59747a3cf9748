//! Whether an endpoint may be used, and every reason why not. Each cause has one owner, who states and
//! withdraws its reason; an endpoint is usable while there is none. The breaker is no part of it: an endpoint
//! whose breaker rejects is usable, and gets no requests.

use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::Instant;

/// Who says that an endpoint is not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its host name has no address.
    Unresolved,
    /// Nothing takes connections there.
    Unreachable,
    /// It does worse than it should: an outlier.
    Ejected,
    /// Its checks do not pass, says discovery.
    NotPassing,
    /// The gateway's own checks fail.
    Check,
    /// It is new where others take requests, and not ready to.
    Joining,
}

/// The state of one endpoint, with its reasons.
#[derive(Debug, Default)]
pub(crate) struct Health {
    unusable: AtomicBool,
    reasons: Mutex<SmallVec<[Reason; 2]>>,
}

/// What an endpoint may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Always,
    /// In panic: when too few others are left.
    InNeed,
    Never,
}

#[derive(Debug)]
struct Reason {
    cause: Cause,
    text: String,
    /// When it will be withdrawn, if that is known.
    until: Option<Instant>,
}

// === impl Cause ===

impl Cause {
    /// Whether requests cannot get there at all, so that not even panic sends any.
    fn is_final(self) -> bool {
        match self {
            Self::Unresolved | Self::Unreachable => true,
            Self::Ejected | Self::NotPassing | Self::Check | Self::Joining => false,
        }
    }
}

// === impl Health ===

impl Health {
    pub(crate) fn is_usable(&self) -> bool {
        !self.unusable.load(Acquire)
    }

    /// Whether it could take requests if there were no better ones.
    pub(crate) fn is_within_reach(&self) -> bool {
        self.is_usable() || use_of(&self.reasons.lock()) != Use::Never
    }

    /// Every reason, as of `now`.
    pub(crate) fn reasons(&self, now: Instant) -> Vec<String> {
        self.reasons
            .lock()
            .iter()
            .map(|reason| reason.told(now))
            .collect()
    }

    /// Whether nothing speaks against it but that it is new.
    pub(crate) fn is_only_new(&self) -> bool {
        let reasons = self.reasons.lock();
        !reasons.is_empty() && reasons.iter().all(|reason| reason.cause == Cause::Joining)
    }

    pub(crate) fn has(&self, cause: Cause) -> bool {
        !self.is_usable()
            && self
                .reasons
                .lock()
                .iter()
                .any(|reason| reason.cause == cause)
    }

    /// The text of a reason.
    pub(crate) fn text(&self, cause: Cause) -> Option<String> {
        let reasons = self.reasons.lock();
        let reason = reasons.iter().find(|reason| reason.cause == cause);
        reason.map(|reason| reason.text.clone())
    }

    /// States a reason, or another text for it. True if that changed what the endpoint may be used for.
    pub(crate) fn state(&self, cause: Cause, text: String) -> bool {
        self.put(cause, text, None)
    }

    /// The same of one that will be withdrawn at a known time.
    pub(crate) fn state_until(&self, cause: Cause, text: String, until: Instant) -> bool {
        self.put(cause, text, Some(until))
    }

    fn put(&self, cause: Cause, text: String, until: Option<Instant>) -> bool {
        let mut reasons = self.reasons.lock();
        if let Some(known) = reasons.iter_mut().find(|known| known.cause == cause) {
            (known.text, known.until) = (text, until);
            return false;
        }
        let before = use_of(&reasons);
        reasons.push(Reason { cause, text, until });
        self.unusable.store(true, Release);
        before != use_of(&reasons)
    }

    /// Withdraws a reason. True if that changed what the endpoint may be used for.
    pub(crate) fn withdraw(&self, cause: Cause) -> bool {
        let mut reasons = self.reasons.lock();
        let before = use_of(&reasons);
        reasons.retain(|known| known.cause != cause);
        self.unusable.store(!reasons.is_empty(), Release);
        before != use_of(&reasons)
    }
}

/// What an endpoint with these reasons may be used for.
fn use_of(reasons: &[Reason]) -> Use {
    match reasons {
        [] => Use::Always,
        some if some.iter().any(|reason| reason.cause.is_final()) => Use::Never,
        _ => Use::InNeed,
    }
}

// === impl Reason ===

impl Reason {
    fn told(&self, now: Instant) -> String {
        match self.until {
            Some(until) => format!("{}, back in {}", self.text, seconds(until, now)),
            None => self.text.clone(),
        }
    }
}

/// The time from `now` to `then` in whole seconds, rounded up: `8s`.
pub(crate) fn seconds(then: Instant, now: Instant) -> String {
    let left = then.saturating_duration_since(now);
    let up = left + Duration::from_nanos(999_999_999);
    format!("{}s", up.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn usable_while_nobody_objects() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(health.is_usable());
        assert!(health.state(Cause::Unreachable, "refused".to_owned()));
        assert!(!health.state(Cause::Unreachable, "still refused".to_owned()));
        assert!(!health.state(Cause::Unresolved, "no such host".to_owned()));
        assert_eq!(health.reasons(now), ["still refused", "no such host"]);
        assert!(!health.withdraw(Cause::Unreachable));
        assert!(!health.is_usable() && !health.is_within_reach());
        assert!(!health.state(Cause::Ejected, "ejected".to_owned()));
        assert!(!health.withdraw(Cause::Ejected));
        assert!(health.withdraw(Cause::Unresolved));
        assert!(!health.withdraw(Cause::Unresolved));
        assert!(health.is_usable());
    }

    #[tokio::test(start_paused = true)]
    async fn an_ejected_endpoint_is_within_reach_and_says_when_it_is_back() {
        let (health, now) = (Health::default(), Instant::now());
        let until = now + Duration::from_millis(7200);
        assert!(health.state_until(
            Cause::Ejected,
            "ejected: 5 consecutive failures".into(),
            until
        ));
        assert!(!health.is_usable() && health.is_within_reach());
        assert_eq!(
            health.reasons(now),
            ["ejected: 5 consecutive failures, back in 8s"]
        );
        assert!(health.state(Cause::Unreachable, "refused".to_owned()));
        assert!(!health.is_within_reach() && health.withdraw(Cause::Unreachable));
        assert_eq!(seconds(now, until), "0s");
    }

    #[tokio::test(start_paused = true)]
    async fn checks_of_the_gateway_and_of_discovery_stand_side_by_side() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(health.state(Cause::Joining, "new".into()) && health.is_only_new());
        health.state(Cause::Check, "check: HTTP 500".into());
        health.state(Cause::NotPassing, "critical in Consul: x".into());
        assert!(!health.withdraw(Cause::Joining) && !health.is_only_new());
        assert_eq!(
            health.reasons(now),
            ["check: HTTP 500", "critical in Consul: x"]
        );
        assert!(health.is_within_reach());
        assert!(!health.withdraw(Cause::NotPassing) && health.withdraw(Cause::Check));
        assert!(health.is_usable());
    }
}
