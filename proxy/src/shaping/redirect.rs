//! Sending a client elsewhere. The parts of its URL that the route gives are replaced, the others stay; the query
//! always does.
//!
//! A `Location` that names neither scheme nor host is a path, and never one that a browser takes for a host: such as
//! begin with two slashes get only one, and a backslash, which browsers read as a slash, is encoded.

use http::HeaderValue;
use http::header::LOCATION;
use mesh_config::model::{self, Route};
use smallvec::smallvec;

use super::path::NewPrefix;
use crate::edge::{Answer, Head};

/// Where a route sends its clients.
#[derive(Debug)]
pub struct Redirect {
    status: u16,
    scheme: Option<Box<str>>,
    host: Option<Box<str>>,
    path: NewPath,
}

#[derive(Debug)]
enum NewPath {
    Same,
    Whole(Box<str>),
    Prefix(NewPrefix),
    /// Without the slash at its end.
    Slashless,
}

// === impl Redirect ===

impl Redirect {
    /// What a route says.
    pub(crate) fn new(route: &Route, redirect: &model::Redirect) -> Self {
        let prefix = NewPrefix::of(&route.matches.path, redirect.path_prefix.as_deref());
        let path = match (&redirect.path, prefix) {
            (Some(path), _) => NewPath::Whole(path.as_str().into()),
            (None, Some(prefix)) => NewPath::Prefix(prefix),
            (None, None) => NewPath::Same,
        };
        Self {
            status: redirect.status,
            scheme: redirect.scheme.as_deref().map(Into::into),
            host: redirect.host.as_deref().map(Into::into),
            path,
        }
    }

    /// To the same path without the slash at its end, with method and body.
    pub(crate) fn without_slash() -> Self {
        Self {
            status: 308,
            scheme: None,
            host: None,
            path: NewPath::Slashless,
        }
    }

    /// The answer to a request.
    pub(crate) fn answer(&self, head: &Head) -> Answer {
        let location = self.location(head.authority(), head.path(), head.query());
        // What is written here is visible ASCII.
        let location = HeaderValue::try_from(location);
        let location = location.unwrap_or_else(|_| HeaderValue::from_static("/"));
        Answer {
            status: self.status,
            headers: smallvec![(LOCATION, location)],
            ..Answer::default()
        }
    }

    fn location(&self, authority: &str, path: &str, query: Option<&str>) -> String {
        let mut location = self.origin(authority);
        let path = match &self.path {
            NewPath::Same => path.into(),
            NewPath::Whole(path) => path.to_string(),
            NewPath::Prefix(prefix) => prefix.in_path(path),
            NewPath::Slashless => path.strip_suffix('/').unwrap_or(path).into(),
        };
        location.push('/');
        write_visible(&mut location, path.trim_start_matches('/'));
        if let Some(query) = query {
            location.push('?');
            write_visible(&mut location, query);
        }
        location
    }

    /// Scheme and host; nothing if both stay, or the client named no host to go to.
    fn origin(&self, authority: &str) -> String {
        let host = self.host.as_deref().unwrap_or(authority);
        if self.scheme.is_none() && self.host.is_none() || host.is_empty() {
            return String::new();
        }
        let scheme = self.scheme.as_deref().unwrap_or("http");
        // The port that goes without saying in one scheme would be wrong in the other.
        let host = match (scheme, &self.host) {
            ("https", None) => host.strip_suffix(":80").unwrap_or(host),
            _ => host,
        };
        let mut origin = format!("{scheme}://");
        write_visible(&mut origin, host);
        origin
    }
}

/// Writes text, with what could end the line or be taken for a slash percent-encoded.
fn write_visible(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'\\' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_config::model::PathMatch;

    fn to(scheme: Option<&str>, host: Option<&str>, path: NewPath) -> Redirect {
        Redirect {
            status: 302,
            scheme: scheme.map(Into::into),
            host: host.map(Into::into),
            path,
        }
    }

    fn prefix(old: &str, new: &str) -> NewPath {
        let new = NewPrefix::of(&PathMatch::Prefix(old.into()), Some(new));
        new.map_or(NewPath::Same, NewPath::Prefix)
    }

    #[test]
    fn parts_that_are_not_given_stay() {
        let location = |redirect: Redirect| redirect.location("a:8080", "/api/x", Some("q=1&r"));
        for (redirect, expected) in [
            (to(None, None, NewPath::Whole("/new".into())), "/new?q=1&r"),
            (to(None, None, prefix("/api", "/v2/")), "/v2/x?q=1&r"),
            (
                to(None, Some("b:1"), NewPath::Same),
                "http://b:1/api/x?q=1&r",
            ),
            (
                to(Some("https"), None, NewPath::Same),
                "https://a:8080/api/x?q=1&r",
            ),
            (
                to(Some("https"), Some("b"), prefix("/api/", "/")),
                "https://b/x?q=1&r",
            ),
        ] {
            assert_eq!(location(redirect), expected);
        }
    }

    #[test]
    fn the_port_of_plain_http_does_not_go_along_to_https() {
        let redirect = to(Some("https"), None, NewPath::Same);
        assert_eq!(redirect.location("a:80", "/", None), "https://a/");
        assert_eq!(
            redirect.location("", "/x", None),
            "/x",
            "a client without a host"
        );
    }

    #[test]
    fn a_path_never_becomes_a_host_or_a_header_line() {
        let same = to(None, None, prefix("/", "/"));
        for (path, expected) in [
            ("//evil.example/x", "/evil.example/x"),
            ("/\\evil.example", "/%5Cevil.example"),
            ("/a\r\nset-cookie: x", "/a%0D%0Aset-cookie:%20x"),
            ("/é", "/%C3%A9"),
        ] {
            assert_eq!(same.location("a", path, None), expected);
        }
    }
}
