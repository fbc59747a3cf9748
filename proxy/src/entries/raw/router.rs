//! `service-router` and `service-splitter`.
//!
//! <https://developer.hashicorp.com/consul/docs/reference/config-entry/service-router>

use std::num::NonZeroU32;
use std::time::Duration;

use mesh_config::model::{HeaderEdits, Pattern, Retry, RetryOn, Timeout};
use serde_json::Value;

use super::fields::{At, Finds};
use crate::entries::conditions::{Conditions, Field, How, Text};
use crate::entries::options::Edits;

/// A try of a route that sets no time of its own.
const PER_TRY: Timeout = Timeout::from_secs::<15>();
/// Consul's, where retries are wanted and no number is given.
const RETRIES: u64 = 1;

#[derive(Debug)]
pub(in crate::entries) struct Router {
    pub(in crate::entries) routes: Vec<(Conditions, Destination)>,
}

/// Where requests of a route go, and how.
#[derive(Debug, Default)]
pub(in crate::entries) struct Destination {
    pub(in crate::entries) service: Option<String>,
    pub(in crate::entries) subset: Option<String>,
    pub(in crate::entries) timeout: Option<Duration>,
    pub(in crate::entries) retry: Option<Retry>,
    pub(in crate::entries) prefix: Option<(String, String)>,
    pub(in crate::entries) edits: Edits,
}

#[derive(Debug)]
pub(in crate::entries) struct Splitter {
    pub(in crate::entries) splits: Vec<Split>,
}

#[derive(Debug)]
pub(in crate::entries) struct Split {
    /// In hundredths of a percent.
    pub(in crate::entries) weight: u32,
    pub(in crate::entries) service: Option<String>,
    pub(in crate::entries) subset: Option<String>,
    pub(in crate::entries) edits: Edits,
}

pub(in crate::entries) fn router(value: &Value, service: &str, finds: &mut Finds) -> Router {
    let entry = At::entry(value, format!("service-router {service}"));
    entry.known(&["Routes"], finds);
    let routes = entry.items("Routes");
    let route = |route: &At<'_>, finds: &mut Finds| {
        route.known(&["Match", "Destination"], finds);
        let http = route.get("Match").and_then(|matches| {
            matches.known(&["HTTP"], finds);
            matches.get("HTTP")
        });
        let conditions = http
            .map(|http| conditions(&http, finds))
            .unwrap_or_default();
        let to = route.get("Destination");
        let to = to.map(|to| destination(&to, conditions.path.as_ref(), finds));
        (conditions, to.unwrap_or_default())
    };
    Router {
        routes: routes.iter().map(|one| route(one, finds)).collect(),
    }
}

fn conditions(http: &At<'_>, finds: &mut Finds) -> Conditions {
    http.known(
        &[
            "PathExact",
            "PathPrefix",
            "PathRegex",
            "CaseInsensitive",
            "Header",
            "QueryParam",
            "Methods",
        ],
        finds,
    );
    let ignore_case = http.is("CaseInsensitive");
    let kinds = [
        ("PathExact", "Exact"),
        ("PathPrefix", "Prefix"),
        ("PathRegex", "Regex"),
    ];
    let path = kinds.into_iter().find_map(|(key, kind)| {
        let at = http.get(key)?;
        text(kind, &at, ignore_case, finds)
    });
    let (headers, query) = (http.items("Header"), http.items("QueryParam"));
    Conditions {
        path,
        headers: headers.iter().map(|at| field(at, true, finds)).collect(),
        query: query.iter().map(|at| field(at, false, finds)).collect(),
        methods: http
            .texts("Methods")
            .iter()
            .map(|one| one.to_uppercase())
            .collect(),
    }
}

/// A condition on a header line, whose names are in lower case, or on a query parameter.
fn field(at: &At<'_>, lower: bool, finds: &mut Finds) -> Field {
    const KINDS: [&str; 5] = ["Exact", "Prefix", "Suffix", "Contains", "Regex"];
    const OTHERS: [&str; 4] = ["Name", "Present", "Invert", "IgnoreCase"];
    at.known(&[&KINDS[..], &OTHERS[..]].concat(), finds);
    let ignore_case = at.is("IgnoreCase");
    let value = KINDS.into_iter().find_map(|kind| {
        let at = at.get(kind)?;
        text(kind, &at, ignore_case, finds)
    });
    let name = at.text("Name").unwrap_or_default();
    if name.is_empty() {
        at.problem(finds, "it has no name");
    }
    Field {
        name: match lower {
            true => name.to_ascii_lowercase(),
            false => name.to_owned(),
        },
        value,
        invert: at.is("Invert"),
    }
}

fn text(kind: &str, at: &At<'_>, ignore_case: bool, finds: &mut Finds) -> Option<Text> {
    let text = at.as_str()?;
    let how = match kind {
        "Exact" => How::Exact,
        "Prefix" => How::Prefix,
        "Suffix" => How::Suffix,
        "Contains" => How::Contains,
        _ => {
            let flag = if ignore_case { "(?i)" } else { "" };
            match Pattern::parse(&format!("{flag}{text}")) {
                Ok(pattern) => How::Regex(pattern),
                Err(why) => {
                    at.problem(finds, &why);
                    return None;
                }
            }
        }
    };
    let small = ignore_case && !matches!(how, How::Regex(_));
    Some(Text {
        how,
        text: if small {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        },
        ignore_case,
    })
}

fn destination(at: &At<'_>, path: Option<&Text>, finds: &mut Finds) -> Destination {
    at.known(
        &[
            "Service",
            "ServiceSubset",
            "PrefixRewrite",
            "RequestTimeout",
            "NumRetries",
            "RetryOnConnectFailure",
            "RetryOn",
            "RetryOnStatusCodes",
            "RequestHeaders",
            "ResponseHeaders",
        ],
        finds,
    );
    let timeout = at.time("RequestTimeout", finds);
    let rewrite = at.get("PrefixRewrite").and_then(|rewrite| {
        let old =
            path.filter(|path| matches!(path.how, How::Prefix | How::Exact) && !path.ignore_case);
        match old {
            Some(old) => Some((old.text.clone(), rewrite.as_str()?.to_owned())),
            None => {
                rewrite.unsupported(finds);
                None
            }
        }
    });
    Destination {
        service: at.text("Service").map(str::to_owned),
        subset: at.text("ServiceSubset").map(str::to_owned),
        retry: retry(at, timeout, finds),
        timeout,
        prefix: rewrite,
        edits: edits(at, finds),
    }
}

/// What is tried again: `None` if nothing is said of it.
fn retry(at: &At<'_>, timeout: Option<Duration>, finds: &mut Finds) -> Option<Retry> {
    let mut on = RetryOn::NONE;
    let connect = at.is("RetryOnConnectFailure");
    on.connect = connect;
    let words = at.items("RetryOn");
    for word in &words {
        if !word.as_str().is_some_and(|word| add(&mut on, word)) {
            word.unsupported(finds);
        }
    }
    let statuses = at.items("RetryOnStatusCodes");
    for status in &statuses {
        match status
            .as_u64()
            .and_then(|status| u16::try_from(status).ok())
        {
            Some(status @ 400..=599) => on.http.push(status),
            _ => status.unsupported(finds),
        }
    }
    on.http.sort_unstable();
    on.http.dedup();
    let number = at.get("NumRetries").and_then(|number| number.as_u64());
    if number.is_none() && !connect && words.is_empty() && statuses.is_empty() {
        return None;
    }
    if on == RetryOn::NONE {
        // A number by itself is for connections, which are tried elsewhere anyway.
        on.connect = true;
    }
    let most = Retry::MAX_ATTEMPTS.get();
    let tries = number.unwrap_or(RETRIES).saturating_add(1);
    let tries = u32::try_from(tries).unwrap_or(most).min(most);
    Some(Retry {
        attempts: NonZeroU32::new(tries).unwrap_or(NonZeroU32::MIN),
        on,
        per_try_timeout: timeout.and_then(Timeout::new).unwrap_or(PER_TRY),
        ..Retry::default()
    })
}

/// A word of Envoy's for what is tried again. False: there is nothing like it here.
fn add(on: &mut RetryOn, word: &str) -> bool {
    let code = |on: &mut RetryOn, code: u32| on.grpc |= 1 << code;
    match word {
        "5xx" => {
            (on.reset, on.connect, on.refused_stream) = (true, true, true);
            on.http.extend(500..=599);
        }
        "gateway-error" => on.http.extend([502, 503, 504]),
        "reset" => on.reset = true,
        "connect-failure" => on.connect = true,
        "retriable-4xx" => on.http.push(409),
        "refused-stream" => on.refused_stream = true,
        "cancelled" => code(on, 1),
        "deadline-exceeded" => code(on, 4),
        "resource-exhausted" => code(on, 8),
        "internal" => code(on, 13),
        "unavailable" => code(on, 14),
        _ => return false,
    }
    true
}

fn edits(at: &At<'_>, finds: &mut Finds) -> Edits {
    let mut of = |key: &str| {
        let Some(at) = at.get(key) else {
            return HeaderEdits::default();
        };
        at.known(&["Add", "Set", "Remove"], finds);
        let mut lines = |key: &str| -> Vec<(String, String)> {
            let lines = at.entries(key).into_iter();
            lines
                .filter_map(|(name, value)| {
                    let text = value.as_str()?;
                    // Envoy's variables are none here, and a line of a connection is no one's to set.
                    let name = name.to_ascii_lowercase();
                    if text.contains('%') || is_of_the_connection(&name) {
                        value.unsupported(finds);
                        return None;
                    }
                    Some((name, text.to_owned()))
                })
                .collect()
        };
        let (add, set) = (lines("Add"), lines("Set"));
        let removes = at.items("Remove");
        let remove = removes.iter().filter_map(|line| {
            let name = line.as_str()?.to_ascii_lowercase();
            if is_of_the_connection(&name) {
                line.unsupported(finds);
                return None;
            }
            Some(name)
        });
        let remove = remove.collect();
        HeaderEdits { set, add, remove }
    };
    Edits {
        request: of("RequestHeaders"),
        response: of("ResponseHeaders"),
    }
}

pub(in crate::entries) fn splitter(value: &Value, service: &str, finds: &mut Finds) -> Splitter {
    let entry = At::entry(value, format!("service-splitter {service}"));
    entry.known(&["Splits"], finds);
    let split = |at: &At<'_>, finds: &mut Finds| {
        at.known(
            &[
                "Weight",
                "Service",
                "ServiceSubset",
                "RequestHeaders",
                "ResponseHeaders",
            ],
            finds,
        );
        let percent = at.number("Weight").unwrap_or_default().clamp(0.0, 100.0);
        Split {
            // At most 10,000, and whole.
            weight: (percent * 100.0).round() as u32,
            service: at.text("Service").map(str::to_owned),
            subset: at.text("ServiceSubset").map(str::to_owned),
            edits: edits(at, finds),
        }
    };
    let splits = entry.items("Splits");
    let splits: Vec<Split> = splits.iter().map(|one| split(one, finds)).collect();
    if splits.iter().all(|split| split.weight == 0) {
        entry.problem(finds, "no split has any weight");
    }
    Splitter { splits }
}

/// Lines of the connection or of framing, which nobody edits; `:authority` is Envoy's name of one.
fn is_of_the_connection(name: &str) -> bool {
    mesh_config::is_framing(name) || name == ":authority"
}
