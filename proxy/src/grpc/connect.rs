//! A client that speaks the Connect protocol: a unary call is a plain POST of a message, streams are enveloped messages
//! whose last says how the call ended. Messages are protobuf, or JSON where the method's descriptor is known.
//!
//! Compressed ones are read as gzip, br or zstd, within the limit of plain ones, and written so for clients that want it. Refused:
//! other codings, envelopes that clients may not send.
//! Specification: <https://connectrpc.com/docs/protocol>.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use transcode::{Code, Codec, MessageId, RequestError};

use super::dialect::{Dialect, Spoken};
use super::get::Get;
use super::head;
use super::status::{self, Told};
use crate::bodies::framed;
use crate::compression::{self, Coding, WORTH};
use crate::edge::{Answer, Refusal};
use crate::error::GatewayError;
use crate::metadata;
use crate::stream::{BrokenOff, Ended, Face, Finish, Lane};
use crate::upstream::{CallError, Reply, code};

/// Flag and length of an envelope.
const PREFIX: usize = 5;
const COMPRESSED: u8 = 1;
/// The envelope that says how the call ended.
const END: u8 = 2;
const CONTENT_ENCODING: HeaderName = HeaderName::from_static("connect-content-encoding");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What the names of trailers begin with where they stand in the head of an answer.
const TRAILER: &str = "trailer-";

/// The messages of a method whose descriptor is known.
#[derive(Debug, Clone)]
pub(crate) struct Messages {
    pub(crate) codec: Arc<Codec>,
    pub(crate) input: MessageId,
    pub(crate) output: MessageId,
}

/// The client of one call.
pub(super) struct Connect<'m> {
    /// What JSON is read and written by; nothing: messages are protobuf.
    json: Option<&'m Messages>,
    /// Not one plain message each way.
    streams: bool,
    content_type: HeaderValue,
    codings: Codings,
    /// How large a message may be.
    most: usize,
    /// Of the request.
    body: BytesMut,
    /// The message of a unary answer.
    only: Option<Bytes>,
}

/// What messages of a call are compressed with.
#[derive(Default)]
pub(super) struct Codings {
    /// Those of the client, if they are.
    sent: Option<Vec<u8>>,
    /// Those of a stream for it; unary answers are compressed like any other.
    wanted: Option<Coding>,
}

impl Codings {
    /// As the head of a call says, or the query of one by GET.
    pub(super) fn of(lane: &Lane<'_>, spoken: Spoken<'_>, get: Option<&Get>) -> Self {
        let streams = spoken.dialect == Dialect::ConnectStream;
        let sent = lane.head.header(match streams {
            true => "connect-content-encoding",
            false => "content-encoding",
        });
        let sent = match get {
            Some(get) => get.coding.as_deref().map(str::as_bytes),
            None => sent,
        };
        let sent = sent.filter(|coding| !coding.is_empty());
        let sent = sent.filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        let wanted = lane.head.header("connect-accept-encoding");
        let wanted = wanted.filter(|_| streams && lane.row.compresses());
        Self {
            sent: sent.map(<[u8]>::to_vec),
            wanted: wanted.and_then(Coding::wanted),
        }
    }
}

impl<'m> Connect<'m> {
    /// `json`: the messages that are read and written in JSON. Each may have `most` bytes.
    pub(super) fn new(
        json: Option<&'m Messages>,
        spoken: Spoken<'_>,
        codings: Codings,
        most: usize,
    ) -> Self {
        Self {
            json,
            streams: spoken.dialect == Dialect::ConnectStream,
            content_type: spoken.content_type(),
            codings,
            most,
            body: BytesMut::new(),
            only: None,
        }
    }

    /// A message as it was before it was compressed.
    fn decompressed(&self, message: Bytes) -> Result<Bytes, Ended> {
        let Some(coding) = &self.codings.sent else {
            return Err(GatewayError::Compressed.into());
        };
        let decoded = compression::decoded(coding, &message, self.most);
        Ok(decoded.map_err(unknown_coding)?.into())
    }

    /// A message of the client with the prefix of gRPC.
    fn encode(&self, message: &[u8]) -> Result<Bytes, Ended> {
        let encoded = framed(message.len(), |wire| match self.json {
            Some(Messages { codec, input, .. }) if !message.is_empty() => codec
                .encode(*input, message, wire)
                .map_err(RequestError::Body),
            Some(_) => Ok(()),
            None => {
                wire.extend_from_slice(message);
                Ok(())
            }
        });
        Ok(encoded.map_err(GatewayError::from)?)
    }

    /// A message of the backend as the client reads it.
    fn decode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Ended> {
        match self.json {
            None => out.extend_from_slice(message),
            Some(Messages { codec, output, .. }) => {
                let decoded = codec.decode(*output, message, out);
                decoded.map_err(GatewayError::from)?;
            }
        }
        Ok(())
    }

    /// The next whole envelope, without its prefix.
    fn envelope(&mut self) -> Result<Option<Bytes>, Ended> {
        let Some(&[flags, ref length @ ..]) = self.body.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if flags & !COMPRESSED != 0 {
            return Err(refused("an envelope has flags that clients may not set"));
        }
        if length > self.most {
            return Err(Refusal::BodyTooLarge.into());
        }
        if self.body.len() < PREFIX + length {
            return Ok(None);
        }
        self.body.advance(PREFIX);
        let message = self.body.split_to(length).freeze();
        match flags {
            COMPRESSED => self.decompressed(message).map(Some),
            _ => Ok(Some(message)),
        }
    }
}

/// Connect has a word of its own for what is not implemented.
fn unknown_coding(error: GatewayError) -> GatewayError {
    match error {
        GatewayError::UnknownCoding => GatewayError::Compressed,
        other => other,
    }
}

pub(super) fn refused(why: &str) -> Ended {
    GatewayError::Elements(why.to_owned()).into()
}

impl Face for Connect<'_> {
    fn push(&mut self, piece: Bytes) -> Result<(), Ended> {
        if !self.streams && self.body.len() + piece.len() > self.most {
            return Err(Refusal::BodyTooLarge.into());
        }
        self.body.extend_from_slice(&piece);
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Bytes>, Ended> {
        if !self.streams {
            return Ok(None);
        }
        let message = self.envelope()?;
        message.map(|message| self.encode(&message)).transpose()
    }

    fn last(&mut self) -> Result<Bytes, Ended> {
        match self.streams {
            false => {
                let mut message = self.body.split().freeze();
                if self.codings.sent.is_some() && !message.is_empty() {
                    message = self.decompressed(message)?;
                }
                self.encode(&message)
            }
            true if self.body.is_empty() => Ok(Bytes::new()),
            true => Err(refused("it ends in the middle of an envelope")),
        }
    }

    fn is_eager(&self) -> bool {
        self.streams
    }

    fn begin(&mut self, metadata: &HeaderMap) -> Answer {
        let mut headers = head::headers(self.content_type.clone(), metadata);
        if let Some(coding) = self.codings.wanted {
            let coding = HeaderValue::from_static(coding.as_str());
            headers.push((CONTENT_ENCODING, coding));
        }
        Answer {
            status: 200,
            headers,
            ..Answer::default()
        }
    }

    fn message(&mut self, message: Bytes, out: &mut Vec<u8>) -> Result<(), Ended> {
        if !self.streams {
            return match self.only.replace(message) {
                None => Ok(()),
                Some(_) => {
                    Err(GatewayError::from(CallError::Malformed("more than one message")).into())
                }
            };
        }
        let start = begin_envelope(0, out);
        self.decode(&message, out)?;
        if let Some(coding) = self.codings.wanted {
            compress_envelope(start, coding, out);
        }
        end_envelope(start, out);
        Ok(())
    }

    fn end(&mut self, reply: Reply, out: &mut Vec<u8>) -> Result<Finish, Ended> {
        if self.streams {
            let told = (reply.code != code::OK).then(|| Told::of(&reply));
            end_of_stream(told.as_ref(), &reply.trailers, out);
            return Ok(Finish::Streamed(None));
        }
        if reply.code != code::OK {
            return Err(GatewayError::Backend(Box::new(reply)).into());
        }
        let missing = GatewayError::Call(CallError::Malformed("status OK without a message"));
        let only = self.only.take().ok_or(missing)?;
        let mut answer = self.begin(&reply.headers);
        self.decode(&only, &mut answer.body)?;
        add_trailers(&reply.trailers, &mut answer);
        Ok(Finish::Whole(Box::new(answer)))
    }

    fn failure(&mut self, told: Answer, out: &mut Vec<u8>) -> Result<Option<HeaderMap>, BrokenOff> {
        // Alone it would be the envelope that ends the stream, too.
        out.extend_from_slice(&told.body);
        Ok(None)
    }
}

/// A failure as the client is told of it, alone.
pub(super) fn refusal(streams: Option<HeaderValue>, error: &GatewayError) -> Answer {
    let told = Told::of_error(error);
    if let Some(content_type) = streams {
        let mut body = Vec::new();
        end_of_stream(Some(&told), &HeaderMap::new(), &mut body);
        return Answer::new(200, content_type, body);
    }
    let status = error.http_status();
    let status = status.unwrap_or_else(|| Code::from_number(told.code).http_status());
    let body = serde_json::to_vec(&words(&told)).unwrap_or_default();
    let mut answer = Answer::new(status, JSON, body);
    if let GatewayError::Backend(reply) = error {
        let headers = head::headers(JSON, &reply.headers).into_iter().skip(1);
        answer.headers.extend(headers);
        add_trailers(&reply.trailers, &mut answer);
    }
    answer
}

fn add_trailers(trailers: &HeaderMap, answer: &mut Answer) {
    let named = trailers.iter().filter_map(|(name, value)| {
        let name = HeaderName::try_from(format!("{TRAILER}{name}")).ok()?;
        Some((name, value.clone()))
    });
    answer.headers.extend(named);
}

/// Appends the envelope that ends a stream.
fn end_of_stream(told: Option<&Told<'_>>, trailers: &HeaderMap, out: &mut Vec<u8>) {
    let mut end = Map::new();
    if let Some(told) = told {
        end.insert("error".to_owned(), words(told));
    }
    let mut metadata = Map::new();
    for name in trailers
        .keys()
        .filter(|name| !metadata::is_connections(name))
    {
        let values = trailers.get_all(name).iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into());
        metadata.insert(name.to_string(), Value::Array(values.collect()));
    }
    if !metadata.is_empty() {
        end.insert("metadata".to_owned(), Value::Object(metadata));
    }
    let start = begin_envelope(END, out);
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, &Value::Object(end));
    end_envelope(start, out);
}

/// `Error` of the protocol.
fn words(told: &Told<'_>) -> Value {
    let code = match Code::from_number(told.code) {
        Code::Cancelled => "canceled".to_owned(),
        code => code.name().to_ascii_lowercase(),
    };
    let mut error = json!({ "code": code });
    if !told.message.is_empty() {
        error["message"] = told.message.as_ref().into();
    }
    let details = status::details_of(told.details.as_deref().unwrap_or_default());
    let details = details.into_iter().map(|(kind, value)| {
        let name = kind.rsplit('/').next().unwrap_or_default().to_owned();
        json!({ "type": name, "value": STANDARD_NO_PAD.encode(value) })
    });
    let details: Vec<Value> = details.collect();
    if !details.is_empty() {
        error["details"] = details.into();
    }
    error
}

fn begin_envelope(flags: u8, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[flags, 0, 0, 0, 0]);
    out.len()
}

/// Compresses the message that begins there, if that is worth it and makes it smaller.
fn compress_envelope(start: usize, coding: Coding, out: &mut Vec<u8>) {
    let message = &out[start..];
    let worth = message.len() >= WORTH;
    let encoded = worth.then(|| coding.encode(message).ok()).flatten();
    if let Some(encoded) = encoded.filter(|encoded| encoded.len() < message.len()) {
        out.truncate(start);
        out.extend_from_slice(&encoded);
        out[start - PREFIX] = COMPRESSED;
    }
}

fn end_envelope(start: usize, out: &mut [u8]) {
    // Messages are bounded far below 4 GiB.
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start - 4..start].copy_from_slice(&length.to_be_bytes());
}
