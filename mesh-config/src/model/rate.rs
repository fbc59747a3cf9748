//! How many requests of a route are let in, and where that is counted.

use std::fmt;
use std::num::NonZeroU32;

use super::{Address, Timeout};

/// A bucket for each key: it holds `burst`, and `requests` flow in evenly over each `per`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// How many are let in, in the long run, in each `per`.
    pub requests: NonZeroU32,
    /// See `requests`.
    pub per: Timeout,
    /// How many are let in at once after a rest.
    pub burst: NonZeroU32,
    /// What each bucket is for; empty: there is one for the route.
    pub key: Vec<RateKey>,
    /// Where it is counted.
    pub store: RateStore,
    /// What holds while the store cannot be reached.
    pub when_away: WhenAway,
}

/// What tells one bucket from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RateKey {
    /// The address of the client.
    Address,
    /// The value of a header line. The name is in lower case.
    Header(String),
    /// A variable of the path template, by its field path. Of transcoded routes only.
    Path(String),
}

impl fmt::Display for RateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Path(variable) => write!(f, "path:{variable}"),
        }
    }
}

/// Where requests are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateStore {
    /// In this process.
    Local,
    /// In a Redis that other gateways count in too.
    Redis(RedisUrl),
}

/// Without what may be secret.
impl fmt::Display for RateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Redis(url) => url.fmt(f),
        }
    }
}

/// What holds while the store cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WhenAway {
    /// Every request is let in.
    Allow,
    /// None is.
    Refuse,
    /// Each gateway counts by itself.
    #[default]
    Local,
}

impl WhenAway {
    /// The word for it in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Refuse => "refuse",
            Self::Local => "local",
        }
    }
}

/// `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`. It may hold a password, so only the address of it is ever shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RedisUrl {
    text: String,
    address: Address,
}

impl RedisUrl {
    const SCHEME: &str = "redis://";
    const FORM: &str = "write redis://HOST:PORT or redis://USER:PASSWORD@HOST:PORT/DB (what is written \
                        is not shown here, as it may hold a password)";

    /// All of it, with the password: for the client that connects, and never for people.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Nothing of `text` gets into the error: it may be a password.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}: {}", Self::FORM);
        let Some(rest) = text.strip_prefix(Self::SCHEME) else {
            if text.starts_with("rediss://") {
                return Err("TLS to Redis is not in this version: use redis://".to_owned());
            }
            return Err(wrong("it is no Redis URL"));
        };
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (login, rest),
            None => ("", rest),
        };
        let odd = |c: char| !c.is_ascii_graphic() || "/?#@".contains(c);
        if login.contains(odd) {
            let what = "user and password are percent-encoded where they have other than letters and digits";
            return Err(wrong(what));
        }
        let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
        if !database.is_empty() && database.parse::<u16>().is_err() {
            return Err(wrong(
                "what follows the address is not the number of a database",
            ));
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, end)| !end.ends_with(']'));
        let address = match has_port {
            true => Address::parse(host),
            false => Address::parse(&format!("{host}:6379")),
        };
        let address = address.map_err(|_| wrong("it has no host, or what is there is none"))?;
        Ok(Self {
            text: text.to_owned(),
            address,
        })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::SCHEME, self.address)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_address_of_a_redis_is_shown() {
        for (text, shown) in [
            ("redis://127.0.0.1:6380", "redis://127.0.0.1:6380"),
            ("redis://redis.internal", "redis://redis.internal:6379"),
            ("redis://:s3cret@r:1/2", "redis://r:1"),
            ("redis://me:s3cret@[::1]", "redis://[::1]:6379"),
            ("redis://me:s3cret@[::1]:7/", "redis://[::1]:7"),
        ] {
            let url = RedisUrl::parse(text).expect(text);
            assert_eq!((url.expose(), url.to_string().as_str()), (text, shown));
            assert_eq!(format!("{url:?}"), format!("RedisUrl({shown})"));
        }
    }

    #[test]
    fn no_error_tells_what_was_written() {
        for text in [
            "s3cret",
            "rediss://:s3cret@r:1",
            "redis:/s3cret",
            "redis://",
            "redis://me:s3cret@",
            "redis://s3cret:s3cret",
            "redis://me:s3/cret@r:1",
            "redis://me:s3cret@r:0",
            "redis://me:s3cret@r:1/s3cret",
            "redis://me:s3cret@r:1?db=s3cret",
        ] {
            let why = RedisUrl::parse(text).expect_err(text);
            assert!(!why.contains("s3"), "{text}: {why}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_the_password_it_is_never_shown(
            before in "(redis://|redis:|REDIS://|)(me:|:|)",
            after in "(@r:1|@r|@|@r:x|@r:1/x|\\PC{0,8})",
        ) {
            let text = format!("{before}QZQZQZ{after}");
            match RedisUrl::parse(&text) {
                // Where it stands for a host it is no password.
                Ok(url) => prop_assert!(!url.to_string().contains("QZQZQZ")),
                Err(why) => prop_assert!(!why.contains("QZQZQZ"), "{}", why),
            }
        }
    }
}
