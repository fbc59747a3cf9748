//! `routes[].cors`: which scripts of browsers may call a route from other sites.

use super::field;
use crate::model::{Cors, Origin};
use crate::reader::Value;
use crate::report::Report;
use crate::schema::CORS;

const ANY: &str = "*";

pub(crate) fn cors(value: &Value<'_>, report: &mut Report) -> Option<Cors> {
    let fields = value.fields(&CORS, report)?;
    let origins = fields.required("origins", report, |value, report| value.set(report, origin));
    let headers = fields.or("headers", Vec::new(), report, names);
    let expose = fields.or("expose", Vec::new(), report, names);
    let credentials = fields.or("credentials", false, report, Value::boolean);
    let max_age = fields.or("max_age", Cors::DEFAULT_MAX_AGE, report, Value::timeout);
    let origins = origins?;
    if credentials && origins.contains(&Origin::Any) {
        let why = "with `credentials`, every site could act in the name of whoever visits it: name the origins";
        value.problem_below(report, "credentials", why);
    }
    Some(Cors {
        origins,
        headers,
        expose,
        credentials,
        max_age,
    })
}

fn names(value: &Value<'_>, report: &mut Report) -> Option<Vec<String>> {
    value.set(report, field::header)
}

/// `*`, `https://app.example.com`, `https://*.example.com`, each perhaps with a port.
fn origin(text: &str) -> Result<Origin, String> {
    let why = || {
        format!(
            "`{text}` is no origin: write https://app.example.com, https://*.example.com (perhaps with a port), or *"
        )
    };
    if text == ANY {
        return Ok(Origin::Any);
    }
    let (scheme, host) = text.split_once("://").ok_or_else(why)?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let (below, rest) = match host.strip_prefix(ANY) {
        Some(rest) => (true, rest),
        None => (false, host),
    };
    let is_scheme = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    if !is_scheme || rest.is_empty() || !rest.bytes().all(good) || (below && !rest.starts_with('.'))
    {
        return Err(why());
    }
    Ok(match below {
        true => Origin::Below(format!("{scheme}://"), rest.to_owned()),
        false => Origin::Exact(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        for (written, sent, expected) in [
            ("*", "null", true),
            ("https://app.example.com", "https://app.example.com", true),
            ("https://app.example.com", "http://app.example.com", false),
            (
                "https://app.example.com",
                "https://app.example.com:8443",
                false,
            ),
            ("https://*.example.com", "https://app.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://.example.com", false),
            ("https://*.example.com", "https://badexample.com", false),
            ("http://localhost:3000", "http://localhost:3000", true),
        ] {
            assert_eq!(
                origin(written).unwrap().is(sent),
                expected,
                "{written} {sent}"
            );
        }
        for bad in [
            "",
            "example.com",
            "https://",
            "https://a/b",
            "https://*",
            "https://*a.b",
            "https://a b",
        ] {
            assert!(origin(bad).is_err(), "{bad} was taken");
        }
    }
}
