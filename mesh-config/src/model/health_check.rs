//! How the gateway itself finds out whether an endpoint is well.

use std::num::NonZeroU32;

use super::Timeout;

/// What the endpoints of a cluster are asked, and what follows from the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub question: CheckQuestion,
    /// From the beginning of one check of an endpoint to the beginning of the next, on average.
    pub interval: Timeout,
    /// How long a check may take, the connection included.
    pub timeout: Timeout,
    /// So many checks that pass one after the other bring an endpoint back.
    pub healthy: NonZeroU32,
    /// So many checks that fail one after the other take an endpoint out.
    pub unhealthy: NonZeroU32,
}

impl HealthCheck {
    /// `interval` where it is not given.
    pub const DEFAULT_INTERVAL: Timeout = Timeout::from_secs::<2>();
    /// `timeout` where it is not given.
    pub const DEFAULT_TIMEOUT: Timeout = Timeout::from_millis::<500>();
    /// `healthy` and `unhealthy` where they are not given.
    pub const DEFAULT_THRESHOLD: NonZeroU32 = NonZeroU32::new(2).unwrap();
    /// `path` where it is not given.
    pub const DEFAULT_PATH: &'static str = "/healthz";
}

/// What an endpoint is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckQuestion {
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// Of this service; empty: of the server as a whole.
        service: String,
    },
    /// `GET`.
    Http {
        /// Path and query.
        path: String,
        /// The `Host`; `None`: the endpoint's address.
        host: Option<String>,
        /// The statuses that pass.
        statuses: Vec<CheckStatus>,
    },
    /// Whether it takes a connection.
    Tcp,
}

impl CheckQuestion {
    /// The word for its protocol in the file.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Grpc { .. } => "grpc",
            Self::Http { .. } => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// Statuses of HTTP that pass a check: `204`, or all of `2xx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckStatus {
    first: u16,
    last: u16,
}

impl CheckStatus {
    /// All of `2xx`.
    pub const SUCCESS: Self = Self {
        first: 200,
        last: 299,
    };

    /// Whether that status is one of them.
    #[must_use]
    pub fn has(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a status that a check may want: \"2xx\" to \"5xx\", or 200 to 599"
            )
        };
        if let Some(hundred) = text.strip_suffix("xx") {
            let hundred: u16 = hundred.parse().map_err(|_| wrong())?;
            if !(2..=5).contains(&hundred) {
                return Err(wrong());
            }
            let first = hundred * 100;
            return Ok(Self {
                first,
                last: first + 99,
            });
        }
        match text.parse() {
            Ok(status @ 200..=599) => Ok(Self {
                first: status,
                last: status,
            }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CheckStatus;

    #[test]
    fn a_status_or_a_hundred_of_them() {
        let has = |text: &str, status| CheckStatus::parse(text).map(|one| one.has(status));
        assert_eq!(has("2xx", 200), Ok(true));
        assert_eq!(has("2xx", 299), Ok(true));
        assert_eq!(has("2xx", 300), Ok(false));
        assert_eq!(has("404", 404), Ok(true));
        assert_eq!(has("404", 405), Ok(false));
        for wrong in ["1xx", "6xx", "xx", "100", "600", "ok", "-2xx", "20x"] {
            assert!(CheckStatus::parse(wrong).is_err(), "{wrong}");
        }
    }
}
