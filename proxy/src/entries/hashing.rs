//! What a `service-resolver` says of balancing: the policy, and by what of a request keys are made for the policies that go by keys.
//!
//! Parts of a request add to one key, as in Envoy: a part that the request does not have adds nothing, and what is terminal ends the
//! list once there is a key. Who has no cookie may be given one, so that further requests find the same endpoint.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use http::HeaderValue;
use mesh_config::model::{BalancingPolicy, HashOn, LoadBalancing, RingSize};
use resilience::split;

use super::conditions::Asked;

/// Digits of a cookie that the gateway makes.
const COOKIE_DIGITS: usize = 16;

/// What a resolver says of balancing; what is not said is as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Balancing {
    pub(super) policy: Option<BalancingPolicy>,
    /// How many are compared by `least_request`.
    pub(super) choices: Option<NonZeroU32>,
    pub(super) ring: Option<RingSize>,
    pub(super) hash: Vec<HashPolicy>,
}

/// A part of a request that is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HashPolicy {
    pub(super) on: HashOn,
    /// The parts after it are not looked at once there is a key.
    pub(super) terminal: bool,
    /// What a client without the cookie is given.
    pub(super) gives: Option<NewCookie>,
}

/// How a cookie of the gateway's own is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewCookie {
    /// `None`: as long as the client's session.
    pub(super) age: Option<Duration>,
    pub(super) path: Option<String>,
}

/// What a request is sticky by, and the cookie that makes it so from now on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Key {
    pub(crate) hash: Option<u64>,
    pub(crate) cookie: Option<HeaderValue>,
}

impl Balancing {
    /// What it changes of a cluster's own rules.
    pub(crate) fn apply(&self, rules: &mut LoadBalancing) {
        if let Some(policy) = self.policy {
            rules.policy = policy;
        }
        rules.choices = self.choices.or(rules.choices);
        rules.ring_size = self.ring.unwrap_or(rules.ring_size);
    }

    /// The key of a request.
    pub(super) fn key(&self, asked: &Asked<'_>) -> Key {
        let mut key = Key::default();
        for policy in &self.hash {
            let Some(hash) = policy.hash(asked, &mut key.cookie) else {
                continue;
            };
            key.hash = Some(key.hash.map_or(hash, |before| before.rotate_left(1) ^ hash));
            if policy.terminal {
                break;
            }
        }
        key
    }
}

impl HashPolicy {
    fn hash(&self, asked: &Asked<'_>, cookie: &mut Option<HeaderValue>) -> Option<u64> {
        match &self.on {
            HashOn::Header(name) => asked.header(name).map(split::point),
            HashOn::Query(name) => asked.parameter(name).map(split::point),
            HashOn::Address => asked.address().map(|address| split::point(&address)),
            // Paths have no variables here.
            HashOn::Path(_) => None,
            HashOn::Cookie(name) => match asked.cookie(name) {
                Some(value) => Some(split::point(value)),
                None => {
                    let (line, hash) = self.gives.as_ref()?.make(name)?;
                    *cookie = Some(line);
                    Some(hash)
                }
            },
        }
    }
}

impl NewCookie {
    /// A cookie that nobody else has, as it is set (RFC 6265 section 4.1), and the hash of its value.
    fn make(&self, name: &str) -> Option<(HeaderValue, u64)> {
        let value = format!("{:0COOKIE_DIGITS$x}", fastrand::u64(..));
        let hash = split::point(value.as_bytes());
        let mut line = format!("{name}={value}");
        if let Some(age) = self.age {
            line += &format!("; Max-Age={}", age.as_secs());
        }
        if let Some(path) = &self.path {
            line += &format!("; Path={path}");
        }
        line += "; HttpOnly";
        Some((HeaderValue::from_str(&line).ok()?, hash))
    }
}

/// With a comma before each, so that it can follow where a request goes.
impl fmt::Display for Balancing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(policy) = self.policy {
            write!(f, ", by {}", policy.as_str())?;
        }
        if let Some(choices) = self.choices {
            write!(f, " of {choices}")?;
        }
        for (index, policy) in self.hash.iter().enumerate() {
            let before = if index == 0 { " on" } else { " and" };
            let part = match &policy.on {
                HashOn::Header(name) => format!("header {name}"),
                HashOn::Cookie(name) => format!("cookie {name}"),
                HashOn::Query(name) => format!("query {name}"),
                HashOn::Path(name) => format!("path {name}"),
                HashOn::Address => "the address".to_owned(),
            };
            write!(f, "{before} {part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::edge::Head;

    fn policy(on: HashOn) -> HashPolicy {
        HashPolicy {
            on,
            terminal: false,
            gives: None,
        }
    }

    fn key(hash: Vec<HashPolicy>, target: &str, headers: &[(&str, &str)]) -> Key {
        let mut request = http::Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let head = Head::of(&request.body(()).unwrap());
        let balancing = Balancing {
            hash,
            ..Balancing::default()
        };
        Asked::of(&head, |asked| balancing.key(asked))
    }

    #[test]
    fn parts_add_to_a_key_and_missing_ones_do_not() {
        let user = || policy(HashOn::Header("x-user".to_owned()));
        let shard = || policy(HashOn::Query("shard".to_owned()));
        let both = || vec![user(), shard()];
        let hash = |hash, target: &str, user: Option<&str>| {
            let headers: Vec<_> = user.map(|user| ("x-user", user)).into_iter().collect();
            key(hash, target, &headers).hash
        };
        assert_eq!(hash(both(), "/", None), None);
        assert_eq!(
            hash(both(), "/a?shard=1", Some("u")),
            hash(both(), "/b?shard=1&x=2", Some("u"))
        );
        assert_ne!(
            hash(both(), "/?shard=1", Some("u")),
            hash(both(), "/?shard=2", Some("u"))
        );
        let terminal = || {
            vec![
                HashPolicy {
                    terminal: true,
                    ..user()
                },
                shard(),
            ]
        };
        assert_eq!(
            hash(terminal(), "/?shard=1", Some("u")),
            hash(terminal(), "/?shard=2", Some("u"))
        );
        assert_ne!(
            hash(terminal(), "/?shard=1", None),
            hash(terminal(), "/?shard=2", None)
        );
        assert!(hash(vec![policy(HashOn::Address)], "/", None).is_some());
    }

    #[test]
    fn a_cookie_that_is_given_makes_the_next_request_find_the_same_way() {
        let sticky = || {
            vec![HashPolicy {
                gives: Some(NewCookie {
                    age: Some(Duration::from_secs(60)),
                    path: Some("/api".to_owned()),
                }),
                ..policy(HashOn::Cookie("sid".to_owned()))
            }]
        };
        let first = key(sticky(), "/", &[]);
        let line = first.cookie.unwrap().to_str().unwrap().to_owned();
        assert!(
            line.ends_with("; Max-Age=60; Path=/api; HttpOnly"),
            "{line}"
        );
        let pair = line.split(';').next().unwrap();
        let again = key(sticky(), "/", &[("cookie", "a=b"), ("cookie", pair)]);
        assert_eq!(again.hash, first.hash);
        assert!(again.cookie.is_none());
        assert!(first.hash.is_some());
    }
}
