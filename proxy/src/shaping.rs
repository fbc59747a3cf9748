//! What a route changes about requests and answers on their way: header lines, and the path and host that an HTTP
//! backend gets to see. Compiled once; an empty one costs a request a few comparisons.
//!
//! Lines that belong to a connection, framing and `Host` cannot be edited: the configuration refuses them. Edits of
//! the request reach gRPC backends as metadata, but for names that gRPC keeps for itself. Edits of the answer hold
//! for every answer of the route, the gateway's own ones included.

mod path;
mod redirect;
mod tell;

use http::{HeaderName, HeaderValue};
use mesh_config::model::{self, Route};
use pingora_http::{RequestHeader, ResponseHeader};
use smallvec::{Array, SmallVec};

use self::path::NewPrefix;
pub(crate) use self::redirect::Redirect;
pub(crate) use self::tell::tell;
use crate::metadata::{self, Metadata};

type Line = (HeaderName, HeaderValue);

/// The changes of one route.
#[derive(Debug, Default)]
pub(crate) struct Shaping {
    prefix: Option<NewPrefix>,
    host: Option<HeaderValue>,
    request: Edits,
    /// Those of `request` that can be metadata.
    metadata: Edits,
    response: Edits,
}

/// Changes of header lines: first `remove`, then `set`, then `add`.
#[derive(Clone, Default)]
struct Edits {
    remove: Box<[HeaderName]>,
    set: Box<[Line]>,
    add: Box<[Line]>,
}

/// Header lines that can be edited.
trait Lines {
    fn remove(&mut self, name: &HeaderName);
    fn set(&mut self, name: &HeaderName, value: &HeaderValue);
    fn add(&mut self, name: &HeaderName, value: &HeaderValue);
}

// === impl Shaping ===

impl Shaping {
    /// What a route says.
    pub(crate) fn new(route: &Route) -> Self {
        let request = Edits::new(&route.request_headers);
        let rewrite = route.rewrite.as_ref();
        let new_prefix = rewrite.and_then(|rewrite| rewrite.path_prefix.as_deref());
        let new_host = rewrite.and_then(|rewrite| rewrite.host.as_deref());
        Self {
            prefix: NewPrefix::of(&route.matches.path, new_prefix),
            host: new_host.and_then(|host| HeaderValue::from_str(host).ok()),
            metadata: request.clone().of_names(metadata::is_allowed),
            request,
            response: Edits::new(&route.response_headers),
        }
    }

    /// Changes of header lines only.
    pub(crate) fn of_edits(request: &model::HeaderEdits, response: &model::HeaderEdits) -> Self {
        let request = Edits::new(request);
        Self {
            metadata: request.clone().of_names(metadata::is_allowed),
            request,
            response: Edits::new(response),
            ..Self::default()
        }
    }

    /// The request as an HTTP backend gets it.
    pub(crate) fn request(&self, request: &mut RequestHeader) -> pingora_core::Result<()> {
        if let Some(prefix) = &self.prefix {
            let target = prefix.in_target(request.uri.path(), request.uri.query());
            request.set_raw_path(target.as_bytes())?;
        }
        if let Some(host) = &self.host {
            request.insert_header(http::header::HOST, host.clone())?;
        }
        self.request.apply(request);
        Ok(())
    }

    /// The metadata that a gRPC backend gets.
    pub(crate) fn metadata(&self, metadata: &mut Metadata) {
        self.metadata.apply(metadata);
    }

    /// The header of a whole answer.
    pub(crate) fn answer<A: Array<Item = Line>>(&self, headers: &mut SmallVec<A>) {
        self.response.apply(headers);
    }

    /// The header of an answer that is passed through.
    pub(crate) fn response(&self, response: &mut ResponseHeader) {
        self.response.apply(response);
    }
}

// === impl Edits ===

impl Edits {
    /// Without what is no header line, which the configuration has refused.
    fn new(edits: &model::HeaderEdits) -> Self {
        let name = |name: &String| HeaderName::from_bytes(name.as_bytes()).ok();
        let line = |(key, value): &(String, String)| {
            Some((name(key)?, HeaderValue::from_str(value).ok()?))
        };
        Self {
            remove: edits.remove.iter().filter_map(name).collect(),
            set: edits.set.iter().filter_map(line).collect(),
            add: edits.add.iter().filter_map(line).collect(),
        }
    }

    fn of_names(self, allowed: impl Fn(&HeaderName) -> bool) -> Self {
        let lines = |lines: Box<[Line]>| {
            let lines = lines.into_iter().filter(|(name, _)| allowed(name));
            lines.collect()
        };
        Self {
            remove: self
                .remove
                .into_iter()
                .filter(|name| allowed(name))
                .collect(),
            set: lines(self.set),
            add: lines(self.add),
        }
    }

    fn apply(&self, lines: &mut impl Lines) {
        self.remove.iter().for_each(|name| lines.remove(name));
        self.set
            .iter()
            .for_each(|(name, value)| lines.set(name, value));
        self.add
            .iter()
            .for_each(|(name, value)| lines.add(name, value));
    }
}

/// Without the values: they may be credentials.
impl std::fmt::Debug for Edits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |lines: &[Line]| -> Vec<HeaderName> {
            lines.iter().map(|(name, _)| name.clone()).collect()
        };
        f.debug_struct("Edits")
            .field("remove", &self.remove)
            .field("set", &names(&self.set))
            .field("add", &names(&self.add))
            .finish()
    }
}

// === impl Lines ===

/// A name and value of the `http` crate are what pingora asks for, so that it has nothing to refuse.
impl Lines for RequestHeader {
    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }

    fn set(&mut self, name: &HeaderName, value: &HeaderValue) {
        let _ = self.insert_header(name.clone(), value.clone());
    }

    fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        let _ = self.append_header(name.clone(), value.clone());
    }
}

impl Lines for ResponseHeader {
    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }

    fn set(&mut self, name: &HeaderName, value: &HeaderValue) {
        let _ = self.insert_header(name.clone(), value.clone());
    }

    fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        let _ = self.append_header(name.clone(), value.clone());
    }
}

impl<A: Array<Item = Line>> Lines for SmallVec<A> {
    fn remove(&mut self, name: &HeaderName) {
        self.retain(|(known, _)| known != name);
    }

    fn set(&mut self, name: &HeaderName, value: &HeaderValue) {
        if self.iter().any(|(known, _)| known == name) {
            Lines::remove(self, name);
        }
        self.push((name.clone(), value.clone()));
    }

    fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.push((name.clone(), value.clone()));
    }
}
