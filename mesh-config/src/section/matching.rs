//! `routes[].match`: which requests a route takes.

use std::collections::HashSet;
use std::net::IpAddr;

use super::field;
use crate::model::{FieldMatch, HostPattern, HttpMethod, Match, PathMatch, Pattern, ValueMatch};
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::{FIELD, MATCH};
use crate::suggest;
use crate::yaml::Kind;

pub(crate) fn matching(value: &Value<'_>, report: &mut Report) -> Option<Match> {
    let fields = value.fields(&MATCH, report)?;
    if !MATCH.names().any(|key| fields.has(key)) {
        return value.wrong(
            report,
            "it has no condition: write `path_prefix: /` for every request",
        );
    }
    let path = path(value, &fields, report);
    let methods = fields
        .get("methods")
        .map_or(Some(Vec::new()), |value| value.set(report, method));
    let hosts = fields
        .get("hosts")
        .map_or(Some(Vec::new()), |value| value.set(report, host));
    let headers = fields.get("headers").map_or(Some(Vec::new()), |value| {
        conditions(&value, header_name, report)
    });
    let query = fields.get("query").map_or(Some(Vec::new()), |value| {
        conditions(&value, field::query, report)
    });
    Some(Match {
        path: path?,
        methods: methods?,
        hosts: hosts?,
        headers: headers?,
        query: query?,
    })
}

fn path(value: &Value<'_>, fields: &Fields<'_>, report: &mut Report) -> Option<PathMatch> {
    let given: Vec<&str> = ["path", "path_prefix", "path_regex"]
        .into_iter()
        .filter(|key| fields.has(key))
        .collect();
    if given.len() > 1 {
        value.problem(
            report,
            format!("it has {}: keep one of them", given.join(" and ")),
        );
    }
    let exact = fields
        .get("path")
        .map(|value| value.parsed(report, literal_path).map(PathMatch::Exact));
    let prefix = fields
        .get("path_prefix")
        .map(|value| value.parsed(report, literal_path).map(PathMatch::Prefix));
    let regex = fields
        .get("path_regex")
        .map(|value| value.parsed(report, Pattern::parse).map(PathMatch::Regex));
    exact.or(prefix).or(regex).unwrap_or(Some(PathMatch::Any))
}

/// A path as it stands in a request line, without a query.
pub(crate) fn literal_path(text: &str) -> Result<String, String> {
    let odd = |c: char| !c.is_ascii_graphic() || "?#{}\"<>\\^`|".contains(c);
    if !text.starts_with('/') {
        return Err(format!("`{text}` is not a path: it has to start with `/`"));
    }
    match text.chars().find(|c| odd(*c)) {
        None => Ok(text.to_owned()),
        Some('{' | '}') => Err(format!(
            "`{text}` is taken literally, so `{{` cannot be in it: use path_regex"
        )),
        Some('?') => Err(format!(
            "`{text}` has a query: write conditions on it under `query`"
        )),
        Some(c) => Err(format!(
            "`{text}` has {c:?} in it: write it percent-encoded"
        )),
    }
}

fn method(text: &str) -> Result<HttpMethod, String> {
    if text.is_empty() || text.len() > 32 || !text.bytes().all(field::is_token) {
        return Err(format!(
            "`{text}` is not an HTTP method: write GET, POST, ..."
        ));
    }
    if text.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(format!(
            "methods are in upper case: write {}",
            text.to_ascii_uppercase()
        ));
    }
    Ok(HttpMethod(text.to_owned()))
}

fn host(text: &str) -> Result<HostPattern, String> {
    let form = "write a host such as example.com or *.example.com, without a port";
    if text == "*" {
        return Err("`*` is every host: leave `hosts` out".to_owned());
    }
    let ip = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    // As they stand in a request: those of version 6 in brackets.
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => return Ok(HostPattern::Exact(ip.to_string())),
        Ok(IpAddr::V6(ip)) => return Ok(HostPattern::Exact(format!("[{ip}]"))),
        Err(_) => {}
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let name = text.strip_prefix("*.");
    if !crate::model::is_host_name(name.unwrap_or(text)) {
        return Err(format!("`{text}` is not a host: {form}"));
    }
    Ok(match name {
        Some(parent) => HostPattern::Wildcard(parent.to_ascii_lowercase()),
        None => HostPattern::Exact(text.to_ascii_lowercase()),
    })
}

pub(crate) fn conditions(
    value: &Value<'_>,
    name: fn(&str) -> Result<String, String>,
    report: &mut Report,
) -> Option<Vec<FieldMatch>> {
    let mut seen = HashSet::new();
    let mut conditions = Vec::new();
    for (key, value) in value.entries(report)? {
        let condition = condition(&value, report);
        match name(key) {
            Err(why) => value.problem(report, why),
            Ok(name) if !seen.insert(name.clone()) => {
                let why =
                    format!("`{name}` has a condition already: upper and lower case are the same");
                value.problem(report, why);
            }
            Ok(name) => conditions.extend(condition.map(|value| FieldMatch { name, value })),
        }
    }
    Some(conditions)
}

/// `"text"`, or a map with one kind of condition.
fn condition(value: &Value<'_>, report: &mut Report) -> Option<ValueMatch> {
    if let Kind::Scalar(_) = &value.node.kind {
        return value
            .text(report)
            .map(|text| ValueMatch::Exact(text.to_owned()));
    }
    let fields = value.fields(&FIELD, report)?;
    let given = FIELD.names().filter(|key| fields.has(key)).count();
    if given != 1 {
        let why = "write one of {} (or just the text that it has to be)";
        let why = why.replace("{}", &suggest::list(FIELD.names()));
        // A mistyped key has been reported, and is all that is wrong.
        let mistyped = given == 0 && !fields.is_empty();
        return (!mistyped).then(|| value.wrong(report, why)).flatten();
    }
    let mut text = |key| {
        fields
            .get(key)
            .and_then(|value| value.text(report))
            .map(str::to_owned)
    };
    let literal = text("exact").map(ValueMatch::Exact);
    let literal = literal.or_else(|| text("prefix").map(ValueMatch::Prefix));
    let literal = literal.or_else(|| text("suffix").map(ValueMatch::Suffix));
    let literal = literal.or_else(|| text("contains").map(ValueMatch::Contains));
    let regex = fields
        .get("regex")
        .and_then(|value| value.parsed(report, Pattern::parse))
        .map(ValueMatch::Regex);
    let present = fields
        .get("present")
        .and_then(|value| value.boolean(report));
    let present = present.map(|present| {
        if present {
            ValueMatch::Present
        } else {
            ValueMatch::Absent
        }
    });
    literal.or(regex).or(present)
}

fn header_name(text: &str) -> Result<String, String> {
    match field::header(text)? {
        name if name == "host" => {
            Err("conditions on the host are written under `hosts`".to_owned())
        }
        name => Ok(name),
    }
}
