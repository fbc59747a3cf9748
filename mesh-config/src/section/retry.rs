//! `routes[]`: `retry` and `hedge`. What a map does not give keeps its default.

use std::num::NonZeroU32;

use super::field;
use crate::model::{Hedge, HedgeAfter, Retry, RetryBackoff, RetryOn};
use crate::reader::Value;
use crate::report::Report;
use crate::schema::{BACKOFF, HEDGE, RETRY};
use crate::suggest;

const EVENTS: [&str; 4] = ["connect", "reset", "timeout", "refused_stream"];

pub(crate) fn retry(value: &Value<'_>, report: &mut Report) -> Option<Retry> {
    let fields = value.fields(&RETRY, report)?;
    let defaults = Retry::default();
    let attempts = fields.or("attempts", defaults.attempts, report, |value, report| {
        value.up_to(Retry::MAX_ATTEMPTS, report)
    });
    let on = fields.or("on", defaults.on, report, on);
    let per_try_timeout = fields.or(
        "per_try_timeout",
        defaults.per_try_timeout,
        report,
        Value::timeout,
    );
    let backoff = fields.or("backoff", defaults.backoff, report, backoff);
    let dedupe = fields.read("dedupe", report, |value, report| {
        value.parsed(report, dedupe)
    });
    let unsafe_methods = fields.or("unsafe", defaults.unsafe_methods, report, Value::boolean);
    Some(Retry {
        attempts,
        on,
        per_try_timeout,
        backoff,
        dedupe,
        unsafe_methods,
    })
}

/// What may come to pass, in the words of the file.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Cause {
    Event(&'static str),
    Grpc(u32),
    Http(u16),
}

fn on(value: &Value<'_>, report: &mut Report) -> Option<RetryOn> {
    let mut on = RetryOn::NONE;
    for cause in value.set(report, cause)? {
        match cause {
            Cause::Event("connect") => on.connect = true,
            Cause::Event("reset") => on.reset = true,
            Cause::Event("timeout") => on.timeout = true,
            Cause::Event(_) => on.refused_stream = true,
            Cause::Grpc(code) => on.grpc |= 1 << code,
            Cause::Http(status) => on.http.push(status),
        }
    }
    on.http.sort_unstable();
    Some(on)
}

fn cause(text: &str) -> Result<Cause, String> {
    if let Some(event) = EVENTS.into_iter().find(|event| *event == text) {
        return Ok(Cause::Event(event));
    }
    let codes = (0..).zip(RetryOn::GRPC_CODES).skip(1);
    if let Some((code, _)) = codes.clone().find(|(_, word)| *word == text) {
        return Ok(Cause::Grpc(code));
    }
    let number = text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
    match text.parse() {
        Ok(status @ 400..=599) if text.len() == 3 => Ok(Cause::Http(status)),
        _ if number => Err(format!(
            "`{text}` is not a status that is retried: 400 to 599, in quotes"
        )),
        _ => {
            let words = || {
                EVENTS
                    .into_iter()
                    .chain(codes.clone().map(|(_, word)| word))
            };
            let suggestion = suggest::did_you_mean(text, words());
            let known = suggest::list(words());
            Err(format!(
                "unknown word `{text}`{suggestion} (known here: {known}, and statuses such as \"503\")"
            ))
        }
    }
}

fn backoff(value: &Value<'_>, report: &mut Report) -> Option<RetryBackoff> {
    let fields = value.fields(&BACKOFF, report)?;
    let defaults = RetryBackoff::default();
    let base = fields.or("base", defaults.base, report, Value::timeout);
    let max = fields.or("max", defaults.max.max(base), report, Value::timeout);
    if max < base {
        let why = format!("{max} is shorter than `base` ({base}), and it is what that grows to");
        value.problem_below(report, "max", why);
    }
    Some(RetryBackoff { base, max })
}

/// The name of a header that is a piece of metadata of gRPC too.
fn dedupe(text: &str) -> Result<String, String> {
    let name = field::header(text)?;
    let metadata = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !metadata || name.ends_with("-bin") || name.starts_with("grpc-") || field::is_framing(&name)
    {
        return Err(format!(
            "`{text}` cannot carry a key: write the header that the backend dedupes by, such as idempotency-key"
        ));
    }
    Ok(name)
}

pub(crate) fn hedge(value: &Value<'_>, report: &mut Report) -> Option<Hedge> {
    const MAX: NonZeroU32 = NonZeroU32::new(9).unwrap();
    let fields = value.fields(&HEDGE, report)?;
    let defaults = Hedge::default();
    let after = fields.or("after", defaults.after, report, |value, report| {
        value.parsed(report, HedgeAfter::parse)
    });
    let max = fields.or("max", defaults.max, report, |value, report| {
        value.up_to(MAX, report)
    });
    Some(Hedge { after, max })
}
