//! How a watch or a registration is doing, and since when: for metrics, pages and log lines.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::answer::Meta;
use crate::error::Error;

/// How it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No answer yet.
    Starting,
    /// Consul answers.
    Current,
    /// It does not, or not with sense: what was known goes on being used.
    Away(Error),
}

impl State {
    /// A word for metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Current => "current",
            Self::Away(error) if error.is_forbidden() => "forbidden",
            Self::Away(_) => "away",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting | Self::Current => f.write_str(self.as_str()),
            Self::Away(error) => write!(f, "{}: {error}", self.as_str()),
        }
    }
}

/// How a watch is doing.
#[derive(Debug, Clone)]
pub struct Status {
    /// How it is.
    pub state: State,
    /// Since when it is so.
    pub since: SystemTime,
    /// The latest index.
    pub index: u64,
    /// What the latest answer said of itself.
    pub meta: Meta,
    /// Answers that meant something.
    pub answers: u64,
    /// Tries that came to nothing.
    pub failures: u64,
}

/// Reads the status of a watch while it goes on.
#[derive(Debug, Clone)]
pub struct StatusHandle(Arc<Mutex<Status>>);

/// What a change of state is worth a line for.
pub(crate) enum Turn {
    /// From anything but `Current`.
    Back {
        /// How long it was not.
        after: Duration,
    },
    /// To another kind of trouble.
    Worse,
    /// Nothing new.
    Same,
}

impl StatusHandle {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Status {
            state: State::Starting,
            since: SystemTime::now(),
            index: 0,
            meta: Meta::default(),
            answers: 0,
            failures: 0,
        })))
    }

    /// As it is now.
    #[must_use]
    pub fn get(&self) -> Status {
        self.0.lock().clone()
    }

    pub(crate) fn answered(&self, index: u64, meta: Meta) -> Turn {
        let mut status = self.0.lock();
        status.index = index;
        status.meta = meta;
        status.answers += 1;
        if status.state == State::Current {
            return Turn::Same;
        }
        let now = SystemTime::now();
        let after = now.duration_since(status.since).unwrap_or_default();
        let was_away = matches!(status.state, State::Away(_));
        status.state = State::Current;
        status.since = now;
        if was_away {
            Turn::Back { after }
        } else {
            Turn::Same
        }
    }

    pub(crate) fn failed(&self, error: &Error) -> Turn {
        let mut status = self.0.lock();
        status.failures += 1;
        let before = std::mem::replace(&mut status.state, State::Away(error.clone()));
        match before {
            State::Away(known) if same_kind(&known, error) => Turn::Same,
            // Away all along, for another reason now: since when it has been away stays.
            State::Away(_) => Turn::Worse,
            State::Starting | State::Current => {
                status.since = SystemTime::now();
                Turn::Worse
            }
        }
    }
}

/// Texts may differ from try to try (a port, a duration); a new kind is news.
fn same_kind(one: &Error, other: &Error) -> bool {
    match (one, other) {
        (Error::Status { status: one, .. }, Error::Status { status: other, .. }) => one == other,
        _ => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_when_is_kept_while_it_is_away_for_whatever_reason() {
        let status = StatusHandle::new();
        assert!(matches!(status.answered(1, Meta::default()), Turn::Same));
        let refused = Error::Connect {
            address: "a".into(),
            why: "refused".into(),
        };
        assert!(matches!(status.failed(&refused), Turn::Worse));
        let since = status.get().since;
        assert!(matches!(status.failed(&refused), Turn::Same));
        assert!(matches!(
            status.failed(&Error::nonsense("HTML")),
            Turn::Worse
        ));
        assert_eq!(status.get().since, since);
        assert!(matches!(
            status.answered(2, Meta::default()),
            Turn::Back { .. }
        ));
        assert_eq!((status.get().answers, status.get().failures), (2, 3));
    }
}
