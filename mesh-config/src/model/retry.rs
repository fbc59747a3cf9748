//! When a call is tried again, and when it is asked twice at once.

use std::num::NonZeroU32;

use super::{Share, Timeout};

/// When a call is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, the first one counted. At most ten.
    pub attempts: NonZeroU32,
    /// What has to have happened.
    pub on: RetryOn,
    /// How long one try may take.
    pub per_try_timeout: Timeout,
    /// How long is waited before the next try.
    pub backoff: RetryBackoff,
    /// The header (metadata) by whose value the backend knows a repeated call, in lower case: then it is safe.
    pub dedupe: Option<String>,
    /// Whether calls are repeated that are not known to be safe.
    pub unsafe_methods: bool,
}

impl Retry {
    /// More tries than this help nobody.
    pub const MAX_ATTEMPTS: NonZeroU32 = NonZeroU32::new(10).unwrap();
}

impl Default for Retry {
    fn default() -> Self {
        const ATTEMPTS: NonZeroU32 = NonZeroU32::new(3).unwrap();
        Self {
            attempts: ATTEMPTS,
            on: RetryOn::default(),
            per_try_timeout: Timeout::from_secs::<1>(),
            backoff: RetryBackoff::default(),
            dedupe: None,
            unsafe_methods: false,
        }
    }
}

/// What a call is tried again after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection came about.
    pub connect: bool,
    /// The connection or stream broke before response headers.
    pub reset: bool,
    /// The try took longer than `per_try_timeout`.
    pub timeout: bool,
    /// The backend refused the stream, or left with a GOAWAY that did not cover it.
    pub refused_stream: bool,
    /// Codes of gRPC: bit 14 is `UNAVAILABLE` (14).
    pub grpc: u32,
    /// Statuses of HTTP, 400 to 599, in order, each once.
    pub http: Vec<u16>,
}

impl RetryOn {
    /// Nothing.
    pub const NONE: Self = Self {
        connect: false,
        reset: false,
        timeout: false,
        refused_stream: false,
        grpc: 0,
        http: Vec::new(),
    };

    /// Codes of gRPC as they are written here; the index is the code.
    pub const GRPC_CODES: [&str; 17] = [
        "ok",
        "cancelled",
        "unknown",
        "invalid_argument",
        "deadline_exceeded",
        "not_found",
        "already_exists",
        "permission_denied",
        "resource_exhausted",
        "failed_precondition",
        "aborted",
        "out_of_range",
        "unimplemented",
        "internal",
        "unavailable",
        "data_loss",
        "unauthenticated",
    ];

    /// Whether it has this code of gRPC.
    #[must_use]
    pub fn grpc_code(&self, code: u32) -> bool {
        code < u32::BITS && self.grpc & (1 << code) != 0
    }

    /// Whether it has this status of HTTP.
    #[must_use]
    pub fn http_status(&self, status: u16) -> bool {
        self.http.contains(&status)
    }
}

impl Default for RetryOn {
    fn default() -> Self {
        Self {
            connect: true,
            refused_stream: true,
            grpc: 1 << 14,
            http: vec![503],
            ..Self::NONE
        }
    }
}

/// How it is written in the file.
impl std::fmt::Display for RetryOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flags = [
            ("connect", self.connect),
            ("reset", self.reset),
            ("timeout", self.timeout),
            ("refused_stream", self.refused_stream),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(word, on)| on.then_some(word));
        let codes = (0..).zip(Self::GRPC_CODES);
        let codes = codes.filter_map(|(code, word)| self.grpc_code(code).then_some(word));
        let statuses = self.http.iter().map(|status| format!("\"{status}\""));
        let words = flags.chain(codes).map(str::to_owned).chain(statuses);
        write!(f, "[{}]", words.collect::<Vec<_>>().join(", "))
    }
}

/// How long is waited before the next try: a random time up to `base`, which doubles with each try up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBackoff {
    /// The bound of the first wait.
    pub base: Timeout,
    /// No wait is longer. At least `base`.
    pub max: Timeout,
}

impl Default for RetryBackoff {
    fn default() -> Self {
        Self {
            base: Timeout::from_millis::<25>(),
            max: Timeout::from_secs::<1>(),
        }
    }
}

/// When another endpoint is asked before the first one has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hedge {
    /// How long an answer may be awaited before.
    pub after: HedgeAfter,
    /// How many further endpoints are asked, at most.
    pub max: NonZeroU32,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            after: HedgeAfter::P95,
            max: NonZeroU32::MIN,
        }
    }
}

/// How long an answer is awaited before another endpoint is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfter {
    /// As long as this share of the answers takes, as it is measured. More than 0%, less than 100%.
    Quantile(Share),
    /// So long.
    Fixed(Timeout),
}

impl HedgeAfter {
    /// As long as 95 of 100 answers take.
    pub const P95: Self = Self::Quantile(Share::from_percent::<95>());

    /// `p95`, `p99.9`, or a duration.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(number) = text.strip_prefix('p') else {
            return Timeout::parse(text)
                .map(Self::Fixed)
                .map_err(|why| format!("{why}, or a share of the answers such as p95"));
        };
        match Share::parse(&format!("{number}%")) {
            Ok(share) if share > Share::ZERO && share < Share::ALL => Ok(Self::Quantile(share)),
            _ => Err(format!(
                "`{text}` is not a share of the answers: write p50 to p99.9, or a duration"
            )),
        }
    }
}

impl std::fmt::Display for HedgeAfter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quantile(share) => write!(f, "p{}", share.to_string().trim_end_matches('%')),
            Self::Fixed(duration) => duration.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn hedges_wait_for_a_share_or_a_time() {
        for text in ["p95", "p50", "p99.9", "p1", "30ms", "2s"] {
            let after = HedgeAfter::parse(text).expect(text);
            assert_eq!(after.to_string(), text);
        }
        for text in [
            "", "p", "p0", "p100", "p101", "p-5", "P95", "95", "95%", "p95%", "0s",
        ] {
            assert!(HedgeAfter::parse(text).is_err(), "{text} was taken");
        }
    }

    #[test]
    fn what_is_retried_prints_as_it_is_written() {
        let on = RetryOn::default();
        assert_eq!(
            on.to_string(),
            "[connect, refused_stream, unavailable, \"503\"]"
        );
        assert!(on.grpc_code(14) && !on.grpc_code(13) && !on.grpc_code(46));
        assert!(on.http_status(503) && !on.http_status(500));
    }
}
