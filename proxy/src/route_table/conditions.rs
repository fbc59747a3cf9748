//! What a row asks of a request beside its host and the path that the router has matched.

use mesh_config::model::{FieldMatch, PathMatch, Route};

use crate::edge::Head;
use crate::grpc;

/// A condition that a request does not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet<'c> {
    /// The route's own `match` of the path.
    Path,
    /// On this header.
    Header(&'c str),
    /// On this query parameter.
    Query(&'c str),
}

/// The conditions of one row; all have to hold.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// The methods that it takes; empty: any.
    pub methods: Vec<String>,
    /// What the path must be too: of a transcoded route that says `match`.
    pub path: PathMatch,
    /// Conditions on header lines.
    pub headers: Vec<FieldMatch>,
    /// Conditions on query parameters.
    pub query: Vec<FieldMatch>,
    /// A call of Connect by GET is taken, too.
    pub connect_get: bool,
}

impl Conditions {
    /// What a route asks; of a transcoded one also the method of the rule, and its own `match` beside the template.
    pub(super) fn of(route: &Route, rule_method: Option<&str>) -> Self {
        let matches = &route.matches;
        let own: Vec<String> = matches
            .methods
            .iter()
            .map(|method| method.as_str().to_owned())
            .collect();
        let (methods, path) = match rule_method {
            None => (own, PathMatch::Any),
            Some("*") => (own, matches.path.clone()),
            Some(method) => (vec![method.to_owned()], matches.path.clone()),
        };
        Self {
            methods,
            path,
            headers: matches.headers.clone(),
            query: matches.query.clone(),
            connect_get: false,
        }
    }

    /// Whether everything but the method fits.
    pub fn hold(&self, head: &Head) -> bool {
        self.unmet(head).is_none()
    }

    /// The first condition, the method's aside, that a request does not meet.
    pub fn unmet(&self, head: &Head) -> Option<Unmet<'_>> {
        if !path_fits(&self.path, head.path()) {
            return Some(Unmet::Path);
        }
        let header = self.headers.iter().find(|field| !header_fits(field, head));
        let query = || {
            self.query
                .iter()
                .find(|field| !query_fits(field, head.query()))
        };
        header
            .map(|field| Unmet::Header(&field.name))
            .or_else(|| query().map(|field| Unmet::Query(&field.name)))
    }

    /// Whether a request is taken as if it had been made by this method.
    pub fn takes(&self, head: &Head, method: &str) -> bool {
        self.takes_method(method) || (self.connect_get && method == "GET" && grpc::is_get(head))
    }

    /// Whether the method is taken; `HEAD` is where `GET` is.
    pub fn takes_method(&self, method: &str) -> bool {
        let takes = |method: &str| self.methods.iter().any(|taken| taken == method);
        self.methods.is_empty() || takes(method) || (method == "HEAD" && takes("GET"))
    }

    /// The methods that are taken, none if any is.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.methods.iter().map(String::as_str)
    }
}

/// Whether a raw path fits a condition; a prefix ends at a segment's end, as in the router.
pub(super) fn path_fits(condition: &PathMatch, path: &str) -> bool {
    match condition {
        PathMatch::Any => true,
        PathMatch::Exact(exact) => path == exact,
        PathMatch::Prefix(prefix) => path
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/')),
        PathMatch::Regex(pattern) => pattern.matches(path.as_bytes()),
    }
}

fn header_fits(field: &FieldMatch, head: &Head) -> bool {
    let mut lines = head
        .headers()
        .filter(|(name, _)| *name == field.name.as_bytes())
        .map(|(_, value)| value)
        .peekable();
    if lines.peek().is_none() {
        return field.value.matches(None);
    }
    lines.any(|value| field.value.matches(Some(value)))
}

fn query_fits(field: &FieldMatch, query: Option<&str>) -> bool {
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    let mut values = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| decoded(name) == field.name.as_bytes())
        .map(|(_, value)| decoded(value))
        .peekable();
    if values.peek().is_none() {
        return field.value.matches(None);
    }
    values.any(|value| field.value.matches(Some(&value)))
}

/// A name or value of a query as forms write it: `+` is a space; a broken escape stands as it is.
pub(crate) fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((first, rest)) = bytes.split_first() {
        let escape = rest.get(..2).filter(|_| *first == b'%').and_then(hex_pair);
        out.push(escape.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        bytes = if escape.is_some() { &rest[2..] } else { rest };
    }
    out
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(pair)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u8::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_a_segment_ends() {
        let fits = |prefix: &str, path| path_fits(&PathMatch::Prefix(prefix.into()), path);
        assert!(fits("/api", "/api") && fits("/api", "/api/x") && fits("/api/", "/api/x"));
        assert!(!fits("/api", "/apix") && !fits("/api/", "/api"));
    }

    #[test]
    fn names_and_values_of_a_query_are_decoded() {
        assert_eq!(decoded("a%20b+c%zz%4"), b"a b c%zz%4");
    }
}
