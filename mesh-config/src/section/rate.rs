//! `routes[].rate_limit`: how many requests are let in.

use super::field;
use crate::model::{RateKey, RateLimit, RateStore, RedisUrl, WhenAway};
use crate::reader::Value;
use crate::report::Report;
use crate::schema::{Choices, RATE_LIMIT};

const WHEN_AWAY: Choices<WhenAway> = &[
    ("local", Some(WhenAway::Local)),
    ("allow", Some(WhenAway::Allow)),
    ("refuse", Some(WhenAway::Refuse)),
];

pub(crate) fn rate_limit(value: &Value<'_>, report: &mut Report) -> Option<RateLimit> {
    let fields = value.fields(&RATE_LIMIT, report)?;
    let requests = fields.required("requests", report, Value::positive_number);
    let per = fields.required("per", report, Value::timeout);
    let burst = fields.read("burst", report, Value::positive_number);
    let key = fields.read("key", report, |value, report| value.set(report, key));
    let store = fields.or("store", RateStore::Local, report, |value, report| {
        value.parsed(report, store)
    });
    let when_away = fields.or("when_away", WhenAway::default(), report, |value, report| {
        value.choice(WHEN_AWAY, report)
    });
    if fields.has("when_away") && !fields.has("store") {
        let why =
            "this process is never away from itself: it needs a `store`, such as redis://HOST:PORT";
        value.problem_below(report, "when_away", why);
    }
    Some(RateLimit {
        requests: requests?,
        per: per?,
        burst: burst.or(requests)?,
        key: key.unwrap_or_default(),
        store,
        when_away,
    })
}

fn key(text: &str) -> Result<RateKey, String> {
    match text.split_once(':') {
        None if text == "address" => Ok(RateKey::Address),
        Some(("header", name)) => field::header(name).map(RateKey::Header),
        Some(("path", name)) => field::variable(name).map(RateKey::Path),
        _ => Err(format!(
            "`{text}` is not a key: write address, header:NAME or path:VARIABLE"
        )),
    }
}

/// What is written may be a password, so it is not quoted.
fn store(text: &str) -> Result<RateStore, String> {
    if text == "local" {
        return Ok(RateStore::Local);
    }
    if !text.contains(':') {
        return Err("write local, or redis://HOST:PORT".to_owned());
    }
    RedisUrl::parse(text).map(RateStore::Redis)
}
