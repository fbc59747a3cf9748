//! `routes[]`: `redirect`, `rewrite`, `request_headers`, `response_headers`, `fault` and `priority`.

use std::collections::HashSet;

use super::{field, matching};
use crate::model::{
    Abort, Address, Delay, Fault, HeaderEdits, Match, PathMatch, Priority, Redirect, Rewrite, Share,
};
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::{ABORT, Choices, DELAY, FAULT, HEADER_EDITS, REDIRECT, REWRITE};

pub(crate) const PRIORITIES: Choices<Priority> = &[
    ("low", Some(Priority::Low)),
    ("normal", Some(Priority::Normal)),
    ("high", Some(Priority::High)),
];

const SCHEMES: Choices<&str> = &[("https", Some("https")), ("http", Some("http"))];

pub(crate) fn redirect(
    value: &Value<'_>,
    matches: Option<&Match>,
    report: &mut Report,
) -> Option<Redirect> {
    let fields = value.fields(&REDIRECT, report)?;
    let given = ["scheme", "host", "path", "path_prefix"];
    if !given.iter().any(|key| fields.has(key)) {
        let why = "it would lead to where it came from: give scheme, host, path or path_prefix";
        return value.wrong(report, why);
    }
    let status = fields.or("status", Redirect::DEFAULT_STATUS, report, redirect_status);
    let scheme = fields.read("scheme", report, |value, report| {
        value.choice(SCHEMES, report).map(str::to_owned)
    });
    let host = fields.read("host", report, |value, report| value.parsed(report, host));
    let path = fields.read("path", report, |value, report| {
        value.parsed(report, own_path)
    });
    let path_prefix = path_prefix(value, &fields, matches, report);
    if fields.has("path") && fields.has("path_prefix") {
        value.problem(report, "it has path and path_prefix: keep one of them");
    }
    Some(Redirect {
        status,
        scheme,
        host,
        path,
        path_prefix,
    })
}

fn redirect_status(value: &Value<'_>, report: &mut Report) -> Option<u16> {
    match u16::try_from(value.count(report)?) {
        Ok(status @ (301 | 302 | 303 | 307 | 308)) => Some(status),
        _ => value.wrong(report, "it is none of 301, 302, 303, 307 and 308"),
    }
}

pub(crate) fn rewrite(
    value: &Value<'_>,
    matches: Option<&Match>,
    report: &mut Report,
) -> Option<Rewrite> {
    let fields = value.fields(&REWRITE, report)?;
    if fields.is_empty() {
        return value.wrong(report, "it changes nothing: give path_prefix or host");
    }
    let path_prefix = path_prefix(value, &fields, matches, report);
    let host = fields.read("host", report, |value, report| value.parsed(report, host));
    Some(Rewrite { path_prefix, host })
}

/// A path of the same host: one that begins with two slashes is read as another host by clients.
fn own_path(text: &str) -> Result<String, String> {
    match text.starts_with("//") {
        true => Err(format!(
            "`{text}` begins with two slashes, which clients read as a host: write `host` and one slash"
        )),
        false => matching::literal_path(text),
    }
}

/// What stands for the prefix of the match, which therefore has to have one.
fn path_prefix(
    value: &Value<'_>,
    fields: &Fields<'_>,
    matches: Option<&Match>,
    report: &mut Report,
) -> Option<String> {
    let prefix = fields.read("path_prefix", report, |value, report| {
        value.parsed(report, own_path)
    })?;
    if let Some(matches) = matches
        && !matches!(matches.path, PathMatch::Prefix(_))
    {
        let why = "it replaces the prefix that the route matches by, and the route has no `match.path_prefix`";
        value.problem_below(report, "path_prefix", why);
    }
    Some(prefix)
}

/// A host, and perhaps a port.
fn host(text: &str) -> Result<String, String> {
    let has_port = text
        .rsplit_once(':')
        .is_some_and(|(_, end)| !end.ends_with(']'));
    let with_port = match has_port {
        true => text.to_owned(),
        false => format!("{text}:1"),
    };
    let address = Address::parse(&with_port).map_err(|_| {
        format!("`{text}` is not a host: write example.com or example.com:8080, without a scheme or path")
    })?;
    let shown = address.to_string();
    Ok(match has_port {
        true => shown,
        false => shown.trim_end_matches(":1").to_owned(),
    })
}

pub(crate) fn header_edits(value: &Value<'_>, report: &mut Report) -> Option<HeaderEdits> {
    let fields = value.fields(&HEADER_EDITS, report)?;
    if fields.is_empty() {
        return value.wrong(report, "it changes nothing: give set, add or remove");
    }
    let mut seen = HashSet::new();
    let set = fields.or("set", Vec::new(), report, |value, report| {
        lines(value, &mut seen, report)
    });
    let add = fields.or("add", Vec::new(), report, |value, report| {
        lines(value, &mut seen, report)
    });
    let remove = fields.or("remove", Vec::new(), report, |value, report| {
        let mut removed = Vec::new();
        for item in value.items(report)? {
            let name = item.parsed(report, edited_name);
            removed.extend(name.and_then(|name| once(&item, name, &mut seen, report)));
        }
        Some(removed)
    });
    Some(HeaderEdits { set, add, remove })
}

fn lines(
    value: &Value<'_>,
    seen: &mut HashSet<String>,
    report: &mut Report,
) -> Option<Vec<(String, String)>> {
    let mut lines = Vec::new();
    for (key, value) in value.entries(report)? {
        let name = match edited_name(key) {
            Ok(name) => once(&value, name, seen, report),
            Err(why) => value.wrong(report, why),
        };
        let text = value.parsed(report, header_value);
        lines.extend(name.zip(text));
    }
    Some(lines)
}

fn once(
    value: &Value<'_>,
    name: String,
    seen: &mut HashSet<String>,
    report: &mut Report,
) -> Option<String> {
    if seen.insert(name.clone()) {
        return Some(name);
    }
    value.wrong(
        report,
        format!("`{name}` is edited already: keep one of the two"),
    )
}

pub(super) fn edited_name(text: &str) -> Result<String, String> {
    match field::header(text)? {
        name if name == "host" => Err("the host is changed by `rewrite.host`".to_owned()),
        name if field::is_framing(&name) => Err(format!(
            "`{name}` belongs to the connection, so the gateway writes it"
        )),
        name => Ok(name),
    }
}

/// The value of a header line. It may be a credential, so it is not quoted.
fn header_value(text: &str) -> Result<String, String> {
    const MAX: usize = 4096;
    let good = |b: u8| b.is_ascii_graphic() || b == b' ' || b == b'\t';
    if !text.bytes().all(good) {
        return Err("a header line has printable ASCII characters only".to_owned());
    }
    if text.trim() != text {
        return Err("a header line neither begins nor ends with spaces".to_owned());
    }
    if text.len() > MAX {
        return Err(format!("a header line has at most {MAX} characters"));
    }
    Ok(text.to_owned())
}

pub(crate) fn fault(value: &Value<'_>, report: &mut Report) -> Option<Fault> {
    let fields = value.fields(&FAULT, report)?;
    if !fields.has("delay") && !fields.has("abort") {
        return value.wrong(report, "it does no harm: give delay or abort");
    }
    let delay = fields.read("delay", report, |value, report| {
        let fields = value.fields(&DELAY, report)?;
        let duration = fields.required("duration", report, Value::timeout);
        let share = fields.or("share", Share::ALL, report, Value::share);
        duration.map(|duration| Delay { duration, share })
    });
    let abort = fields.read("abort", report, |value, report| {
        let fields = value.fields(&ABORT, report)?;
        let status = fields.required("status", report, Value::error_status);
        let share = fields.or("share", Share::ALL, report, Value::share);
        status.map(|status| Abort { status, share })
    });
    let header = fields.read("header", report, |value, report| {
        value.parsed(report, field::header)
    });
    Some(Fault {
        delay,
        abort,
        header,
    })
}
