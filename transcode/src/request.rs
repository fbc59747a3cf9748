//! A request's way into a message: the body, then the query, then the path.
//!
//! The parts are appended to one another: protobuf merges them, the last value of a field wins,
//! so what the path says holds against the body. Every fault is the caller's and is told with
//! the place where it is.

use crate::binding::{Binding, Body};
use crate::error::JsonError;
use crate::options::{Dialect, UnknownFields};
use crate::percent::{self, Decoded};
use crate::router::Captures;

/// Why a request does not fit its method. The texts are shown to API users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A variable of the path.
    #[error("path variable `{name}`: {why}")]
    Path {
        /// The field that it binds.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A parameter of the query.
    #[error("query parameter `{name}`: {why}")]
    Query {
        /// The parameter's name, as it was sent.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The body is not the JSON that belongs there.
    #[error("body: {0}")]
    Body(JsonError),
    /// There is no body where one belongs.
    #[error("body: there is none, but this method needs one")]
    NoBody,
    /// There is a body where none belongs.
    #[error("body: there is one, but this method takes none")]
    UnexpectedBody,
    /// A value that the profile does not admit.
    #[error("`{field}` {why}")]
    Check {
        /// The field.
        field: String,
        /// What it must be.
        why: String,
    },
}

/// Longer names than this are cut in messages: they are the caller's text.
const LONGEST_NAME: usize = 64;

impl RequestError {
    #[cold]
    pub(crate) fn query(name: &str, why: impl ToString) -> RequestError {
        let mut shown: String = name.chars().take(LONGEST_NAME).collect();
        if shown.len() < name.len() {
            shown.push('…');
        }
        RequestError::Query {
            name: shown,
            why: why.to_string(),
        }
    }

    #[cold]
    fn path(name: String, why: impl ToString) -> RequestError {
        RequestError::Path {
            name,
            why: why.to_string(),
        }
    }
}

impl Binding {
    /// Appends the request's message to `wire`. `path` is the raw path that was routed,
    /// `captures` what the router found in it, `query` the raw query without `?`.
    ///
    /// After an error `wire` holds an unfinished message.
    pub fn encode_request(
        &self,
        path: &str,
        captures: &Captures,
        query: Option<&str>,
        body: &[u8],
        wire: &mut Vec<u8>,
    ) -> Result<(), RequestError> {
        let start = wire.len();
        self.encode_body(body, wire)?;
        self.encode_rest(path, captures, query, wire)?;
        self.checks.verify(wire.get(start..).unwrap_or_default())
    }

    /// What stands outside of the body.
    pub(crate) fn encode_rest(
        &self,
        path: &str,
        captures: &Captures,
        query: Option<&str>,
        wire: &mut Vec<u8>,
    ) -> Result<(), RequestError> {
        if let Some(query) = query {
            self.query.encode(&self.codec, query, wire)?;
        }
        self.encode_path(path, captures, wire)
    }

    /// Appends a further message of a request that streams. Path and query belong to the first.
    ///
    /// After an error `wire` holds an unfinished message.
    pub fn encode_element(&self, json: &[u8], wire: &mut Vec<u8>) -> Result<(), RequestError> {
        let start = wire.len();
        self.encode_body(json, wire)?;
        self.checks.verify(wire.get(start..).unwrap_or_default())
    }

    fn encode_body(&self, body: &[u8], wire: &mut Vec<u8>) -> Result<(), RequestError> {
        let options = self.codec.options();
        if body.is_empty() {
            // The mapping of google.api.http reads no body as an empty message; a typed JSON reader does not.
            let needed = options.dialect == Dialect::Plain && !matches!(self.body, Body::None);
            return if needed {
                Err(RequestError::NoBody)
            } else {
                Ok(())
            };
        }
        match &self.body {
            Body::Whole => self
                .codec
                .encode(self.input, body, wire)
                .map_err(RequestError::Body),
            Body::Field(field) => self
                .codec
                .encode_field(field, body, wire)
                .map_err(RequestError::Body),
            Body::None if options.unknown_fields == UnknownFields::Reject => {
                Err(RequestError::UnexpectedBody)
            }
            Body::None => Ok(()),
        }
    }

    fn encode_path(
        &self,
        path: &str,
        captures: &Captures,
        wire: &mut Vec<u8>,
    ) -> Result<(), RequestError> {
        let mut space = Decoded::new();
        for (index, variable) in self.variables.iter().enumerate() {
            let name = || {
                self.template
                    .variables()
                    .get(index)
                    .map(|v| v.name())
                    .unwrap_or_default()
            };
            let raw = captures.raw(path, index).unwrap_or_default();
            let value = percent::decode(raw, variable.mode, &mut space)
                .map_err(|why| RequestError::path(name(), why))?;
            self.codec
                .encode_text(&variable.field, value, wire)
                .map_err(|error| RequestError::path(name(), error.what()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
