//! What a client is told of a limit: `RateLimit-Policy` and `RateLimit`
//! (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>, structured fields of RFC 9651).
//!
//! The policy is named after the route: `q` requests in `w` seconds, and how many at once if that is another number.
//! `r` more would pass now, and `t` seconds later there is more room. Refused: a partition key (`pk`), because
//! it could be somebody's secret.

use http::{HeaderName, HeaderValue};
use mesh_config::model::RateLimit;
use resilience::rate::Decision;
use smallvec::SmallVec;

use super::Ticket;
use crate::edge::Headers;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The fields of one route's limit.
#[derive(Debug)]
pub(super) struct Fields {
    /// The route's name as a string of structured fields, up to the number of requests.
    limit: String,
    policy: HeaderValue,
}

impl Fields {
    pub(super) fn new(route: &str, limit: &RateLimit) -> Self {
        let name = quoted(route);
        let policy = policy(&name, limit);
        let limit = name + ";r=";
        Self { limit, policy }
    }

    pub(super) fn add(&self, ticket: &Ticket, headers: &mut Headers) {
        let decision = match ticket {
            Ticket::Free | Ticket::Pending(_) => return,
            Ticket::Uncounted => None,
            Ticket::Counted(decision) => Some(decision),
        };
        headers.push((POLICY, self.policy.clone()));
        if let Some(limit) = decision.and_then(|decision| self.limit(decision)) {
            headers.push((LIMIT, limit));
        }
    }

    fn limit(&self, decision: &Decision) -> Option<HeaderValue> {
        let mut number = itoa::Buffer::new();
        let mut text = SmallVec::<[u8; 128]>::from_slice(self.limit.as_bytes());
        text.extend_from_slice(number.format(decision.remaining).as_bytes());
        if !decision.reset_after.is_zero() {
            text.extend_from_slice(b";t=");
            let seconds = whole_seconds(decision.reset_after);
            text.extend_from_slice(number.format(seconds).as_bytes());
        }
        HeaderValue::from_bytes(&text).ok()
    }
}

/// Rounded up, so that who waits for so long does not come too early.
pub(super) fn whole_seconds(time: std::time::Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// `w` is a whole number of seconds: a shorter `per` is told by how many fit into the next one.
fn policy(name: &str, limit: &RateLimit) -> HeaderValue {
    let per = limit.per.get();
    let window = whole_seconds(per).max(1);
    let requests = u128::from(limit.requests.get());
    let quota = requests * u128::from(window) * 1_000_000_000 / per.as_nanos().max(1);
    let mut text = format!("{name};q={quota};w={window}");
    if u128::from(limit.burst.get()) != quota {
        text.push_str(&format!(";highpress-burst={}", limit.burst));
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("\"route\""))
}

/// A string of structured fields (RFC 9651 section 3.3.3), which is ASCII.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_config::model::{RateStore, Timeout, WhenAway};

    use super::*;

    fn limit(requests: u32, per: Timeout, burst: u32) -> RateLimit {
        RateLimit {
            requests: requests.try_into().unwrap(),
            per,
            burst: burst.try_into().unwrap(),
            key: Vec::new(),
            store: RateStore::Local,
            when_away: WhenAway::Local,
        }
    }

    #[test]
    fn a_policy_says_quota_and_window_in_whole_seconds() {
        let (second, minute) = (Timeout::from_secs::<1>(), Timeout::from_secs::<60>());
        let (quarter, odd) = (
            Timeout::from_millis::<250>(),
            Timeout::from_millis::<1500>(),
        );
        for (limit, expected) in [
            (limit(100, second, 100), r#""a";q=100;w=1"#),
            (
                limit(100, minute, 20),
                r#""a";q=100;w=60;highpress-burst=20"#,
            ),
            (limit(5, quarter, 5), r#""a";q=20;w=1;highpress-burst=5"#),
            (limit(3, odd, 4), r#""a";q=4;w=2"#),
        ] {
            assert_eq!(policy("\"a\"", &limit), expected);
        }
    }

    #[test]
    fn a_limit_says_what_is_left_and_when_there_is_more() {
        let fields = Fields::new(r#"a "b" \ é"#, &limit(1, Timeout::from_secs::<1>(), 1));
        let decision = Decision {
            allowed: true,
            limit: 10,
            remaining: 7,
            reset_after: Duration::from_millis(1001),
            retry_after: Duration::ZERO,
        };
        let mut headers = Headers::new();
        fields.add(&Ticket::Counted(decision), &mut headers);
        let values: Vec<_> = headers
            .iter()
            .map(|(_, value)| value.to_str().unwrap())
            .collect();
        let name = r#""a \"b\" \\ ?""#;
        assert_eq!(
            values,
            [format!("{name};q=1;w=1"), format!("{name};r=7;t=2")]
        );
    }
}
