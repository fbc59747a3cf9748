//! `google.api.HttpBody`: bodies that are no JSON. The request's bytes and content type go into the message as they are,
//! and come out of it so; in a stream of them the bytes are one body, whose type the first message says.
//!
//! Refused: nothing. What a backend says of extensions is not for HTTP.
//! Specification: <https://github.com/googleapis/googleapis/blob/master/google/api/httpbody.proto>.

use crate::binding::{Binding, Body, Response};
use crate::error::WireError;
use crate::path::FieldPath;
use crate::request::RequestError;
use crate::router::Captures;
use crate::schema::{Cardinality, Kind, MessageId, Schema};
use crate::wire::{Cursor, DELIMITED, put_varint};

const NAME: &str = "google.api.HttpBody";
const CONTENT_TYPE: u32 = 1;
const DATA: u32 = 2;

/// Where in a method's message its body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is the message.
    Whole,
    /// It is this field.
    Field(u32),
}

/// A request's body as it came.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// `Content-Type`; empty if there is none, and in all messages of a stream but the first.
    pub content_type: &'a str,
    /// The bytes.
    pub data: &'a [u8],
}

/// What a response's body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Download<'a> {
    /// Empty if the backend did not say.
    pub content_type: &'a [u8],
    /// The bytes.
    pub data: &'a [u8],
}

/// Where the body of requests stands, if it is one.
pub(crate) fn of_request(schema: &Schema, input: MessageId, body: &Body) -> Option<Place> {
    match body {
        Body::None => None,
        Body::Whole => is_body(schema, input).then_some(Place::Whole),
        Body::Field(field) => of_field(schema, field),
    }
}

/// Where the body of responses stands, if it is one.
pub(crate) fn of_response(
    schema: &Schema,
    output: MessageId,
    response: &Response,
) -> Option<Place> {
    match response {
        Response::Whole => is_body(schema, output).then_some(Place::Whole),
        Response::Field(field) => of_field(schema, field),
        Response::Shaped(..) => None,
    }
}

fn of_field(schema: &Schema, path: &FieldPath) -> Option<Place> {
    let field = path.field(schema);
    let Kind::Message(inner) = field.kind else {
        return None;
    };
    let single = field.cardinality == Cardinality::Single && !field.delimited;
    (single && is_body(schema, inner)).then_some(Place::Field(field.number))
}

fn is_body(schema: &Schema, message: MessageId) -> bool {
    schema.message_info(message).full_name == NAME
}

impl Binding {
    /// Whether the request's body is taken as it is, whatever its type.
    pub fn takes_any_body(&self) -> bool {
        self.upload.is_some()
    }

    /// Whether the response's body is what the backend says, whatever its type.
    pub fn gives_any_body(&self) -> bool {
        self.download.is_some()
    }

    /// Appends the message of a request whose body is taken as it is; the other arguments are those of
    /// [`Binding::encode_request`].
    pub fn encode_upload(
        &self,
        path: &str,
        captures: &Captures,
        query: Option<&str>,
        upload: Upload<'_>,
        wire: &mut Vec<u8>,
    ) -> Result<(), RequestError> {
        self.encode_upload_piece(upload, wire);
        self.encode_rest(path, captures, query, wire)
    }

    /// Appends a further message of such a request, if it streams.
    pub fn encode_upload_piece(&self, upload: Upload<'_>, wire: &mut Vec<u8>) {
        let Upload { content_type, data } = upload;
        match self.upload {
            None => {}
            Some(Place::Whole) => put(content_type, data, wire),
            Some(Place::Field(number)) => {
                let mut body = Vec::with_capacity(content_type.len() + data.len() + 16);
                put(content_type, data, &mut body);
                field(number, &body, wire);
            }
        }
    }

    /// The body in a response.
    pub fn decode_download<'w>(&self, wire: &'w [u8]) -> Result<Download<'w>, WireError> {
        let body = match self.download {
            None => return Ok(Download::default()),
            Some(Place::Whole) => wire,
            Some(Place::Field(number)) => last(wire, number)?.unwrap_or_default(),
        };
        Ok(Download {
            content_type: last(body, CONTENT_TYPE)?.unwrap_or_default(),
            data: last(body, DATA)?.unwrap_or_default(),
        })
    }
}

fn put(content_type: &str, data: &[u8], wire: &mut Vec<u8>) {
    if !content_type.is_empty() {
        field(CONTENT_TYPE, content_type.as_bytes(), wire);
    }
    if !data.is_empty() {
        field(DATA, data, wire);
    }
}

fn field(number: u32, bytes: &[u8], wire: &mut Vec<u8>) {
    put_varint(wire, u64::from(number << 3 | DELIMITED));
    put_varint(wire, bytes.len() as u64);
    wire.extend_from_slice(bytes);
}

/// The last value of a field of bytes, if there is one.
fn last(wire: &[u8], number: u32) -> Result<Option<&[u8]>, WireError> {
    let (mut cursor, mut found) = (Cursor::new(wire), None);
    while !cursor.is_at_end() {
        match cursor.tag()? {
            tag if tag == number << 3 | DELIMITED => found = Some(cursor.delimited()?),
            tag => cursor.skip(tag, 0)?,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_value_of_a_field_counts() {
        let mut wire = Vec::new();
        put("text/plain", b"one", &mut wire);
        put("", b"two", &mut wire);
        field(3, b"an extension", &mut wire);
        assert_eq!(last(&wire, CONTENT_TYPE).unwrap(), Some(&b"text/plain"[..]));
        assert_eq!(last(&wire, DATA).unwrap(), Some(&b"two"[..]));
        assert_eq!(last(&wire, 9).unwrap(), None);
        assert!(last(&wire[..wire.len() - 1], DATA).is_err());
    }
}
