//! Whether an endpoint may be used, and every reason why not. Each cause has one owner, who states and
//! withdraws its reason; an endpoint is usable while there is none.

use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};

use parking_lot::Mutex;
use smallvec::SmallVec;

/// Who says that an endpoint is not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its host name has no address.
    Unresolved,
    /// Nothing takes connections there.
    Unreachable,
}

/// The state of one endpoint, with its reasons.
#[derive(Debug, Default)]
pub(crate) struct Health {
    unusable: AtomicBool,
    reasons: Mutex<SmallVec<[(Cause, String); 2]>>,
}

// === impl Health ===

impl Health {
    pub(crate) fn is_usable(&self) -> bool {
        !self.unusable.load(Acquire)
    }

    pub(crate) fn reasons(&self) -> Vec<String> {
        self.reasons
            .lock()
            .iter()
            .map(|(_, reason)| reason.clone())
            .collect()
    }

    pub(crate) fn has(&self, cause: Cause) -> bool {
        !self.is_usable() && self.reasons.lock().iter().any(|(known, _)| *known == cause)
    }

    /// States a reason, or another text for it. True if that changed whether the endpoint is usable.
    pub(crate) fn state(&self, cause: Cause, reason: String) -> bool {
        let mut reasons = self.reasons.lock();
        if let Some(known) = reasons.iter_mut().find(|(known, _)| *known == cause) {
            known.1 = reason;
            return false;
        }
        reasons.push((cause, reason));
        self.unusable.store(true, Release);
        reasons.len() == 1
    }

    /// Withdraws a reason. True if that changed whether the endpoint is usable.
    pub(crate) fn withdraw(&self, cause: Cause) -> bool {
        let mut reasons = self.reasons.lock();
        let before = reasons.len();
        reasons.retain(|(known, _)| *known != cause);
        self.unusable.store(!reasons.is_empty(), Release);
        before > 0 && reasons.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_while_nobody_objects() {
        let health = Health::default();
        assert!(health.is_usable());
        assert!(health.state(Cause::Unreachable, "refused".to_owned()));
        assert!(!health.state(Cause::Unreachable, "still refused".to_owned()));
        assert!(!health.state(Cause::Unresolved, "no such host".to_owned()));
        assert_eq!(health.reasons(), ["still refused", "no such host"]);
        assert!(!health.withdraw(Cause::Unreachable));
        assert!(!health.is_usable());
        assert!(health.withdraw(Cause::Unresolved));
        assert!(!health.withdraw(Cause::Unresolved));
        assert!(health.is_usable());
    }
}
