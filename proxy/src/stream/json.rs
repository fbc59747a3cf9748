//! Streams as JSON: the client's messages are the values of its body, those of the backend have a [`Form`]. Where messages are
//! `google.api.HttpBody`, they are pieces of one body instead, of whatever type. Over a WebSocket a message is a message.

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::time::{Instant, timeout_at};
use transcode::{Download, Upload};

use super::elements::{self, Elements};
use super::{Asking, BrokenOff, Ended, Face, Finish, Form, Lane, websocket};
use crate::bodies::{framed, type_of};
use crate::edge::{Answer, Client, Refusal};
use crate::error::GatewayError;
use crate::metadata;
use crate::route_table::Streamed;
use crate::unary::{self, MAX_REPLY};
use crate::upstream::{Await, CallError, CallPolicy, Reply, code};

/// What browsers send when they take a stream up again, and services that number their messages want to know.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A client that speaks JSON.
struct Json<'l, 'a> {
    lane: &'l Lane<'a>,
    streamed: &'l Streamed,
    form: Form,
    elements: Elements,
    /// Path and query belong to the first message, which has been sent.
    introduced: bool,
    /// The one message of a method that answers with no stream.
    only: Option<Bytes>,
    count: u64,
    /// The number of the event before the first.
    before: u64,
    json: Vec<u8>,
    /// Of a body that is taken as it is.
    piece: Bytes,
    /// Of a body that is given as the backend says, once that is known.
    content_type: Option<HeaderValue>,
}

/// Runs a call to its end.
pub(super) async fn run(
    lane: &Lane<'_>,
    streamed: &Streamed,
    client: &mut dyn Client,
) -> Result<Option<Answer>, Ended> {
    let mut json = Json::new(lane, streamed);
    if *lane.head.method() == Method::HEAD {
        return Ok(Some(json.form.head()));
    }
    lane.harm(client).await?;
    let until = match json.is_chat() {
        true => Instant::now() + streamed.idle_timeout,
        false => lane.patience().deadline,
    };
    let opening = timeout_at(until, json.opening(client)).await;
    let (first, more) = opening.unwrap_or(Err(Refusal::BodyTimeout.into()))?;
    if json.is_chat() {
        lane.begins_now();
    }
    let transcoded = &streamed.transcoded;
    // What is still on its way cannot be sent twice.
    let policy = match transcoded.binding.client_streaming {
        true => CallPolicy::NONE,
        false => &transcoded.policy,
    };
    let mut metadata = unary::metadata(lane.row, policy, lane.head);
    metadata.extend(json.last_event_id());
    if json.is_chat() {
        websocket::authorize(lane.head, &mut metadata);
    }
    let asking = Asking {
        method: &transcoded.method,
        policy,
        stats: &lane.row.stats,
        metadata,
        first,
        more,
        await_for: match (more, json.form) {
            (true, _) => Await::Nothing,
            (false, Form::Sse) if json.is_eager() => Await::Head,
            (false, _) => Await::Message,
        },
        max_message: Some(MAX_REPLY),
        bounded: false,
        idle_timeout: streamed.idle_timeout,
        chats: more && json.is_chat(),
        compress: transcoded.compression && !json.is_chat(),
    };
    lane.relay(client, &mut json, asking).await
}

impl<'l, 'a> Json<'l, 'a> {
    fn new(lane: &'l Lane<'a>, streamed: &'l Streamed) -> Self {
        let kind = lane.head.header("content-type").unwrap_or_default();
        let mut json = Self {
            lane,
            streamed,
            form: match lane.head.is_websocket() {
                true => Form::Message,
                false => Form::wanted(lane.head.header("accept"), streamed.form),
            },
            elements: Elements::new(elements::is_lines(kind), streamed.transcoded.max_body),
            introduced: false,
            only: None,
            count: 0,
            before: 0,
            json: Vec::new(),
            piece: Bytes::new(),
            content_type: None,
        };
        let last = json.last_event_id();
        let number = last.and_then(|(_, id)| id.to_str().ok()?.parse().ok());
        json.before = number.unwrap_or(0);
        json
    }

    /// Reads what the first message is made of, and says whether more may come.
    async fn opening(&mut self, client: &mut dyn Client) -> Result<(Bytes, bool), Ended> {
        let transcoded = &self.streamed.transcoded;
        if self.is_chat() {
            return self.first_of_chat(client).await;
        }
        let coding = self.lane.head.header("content-encoding");
        if transcoded.binding.client_streaming
            && coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"))
        {
            // Only whole bodies are decoded.
            return Err(GatewayError::UnknownCoding.into());
        }
        if !transcoded.binding.client_streaming {
            let body = gather(client, transcoded.max_body).await?;
            return Ok((self.encode(&body)?, false));
        }
        loop {
            if let Some(first) = self.next()? {
                return Ok((first, true));
            }
            match poll_fn(|cx| client.poll_read(cx)).await? {
                Some(piece) => self.push(piece)?,
                None => return Ok((self.last()?, false)),
            }
        }
    }

    /// The same of a WebSocket: a client that streams may have nothing to say yet.
    async fn first_of_chat(&mut self, client: &mut dyn Client) -> Result<(Bytes, bool), Ended> {
        let binding = &self.streamed.transcoded.binding;
        if binding.client_streaming {
            return Ok((Bytes::new(), true));
        }
        let message = match binding.takes_body() {
            true => poll_fn(|cx| client.poll_read(cx)).await?,
            false => None,
        };
        Ok((self.encode(&message.unwrap_or_default())?, false))
    }

    fn encode(&mut self, body: &[u8]) -> Result<Bytes, Ended> {
        let transcoded = &self.streamed.transcoded;
        let encoded = match std::mem::replace(&mut self.introduced, true) {
            false => self.lane.request(body).encode(transcoded)?,
            true if transcoded.binding.takes_any_body() => {
                let upload = Upload {
                    content_type: "",
                    data: body,
                };
                let piece = framed(body.len(), |wire| {
                    transcoded.binding.encode_upload_piece(upload, wire);
                    Ok::<_, GatewayError>(())
                });
                piece?
            }
            true => {
                let binding = &transcoded.binding;
                let encoded = framed(body.len(), |wire| binding.encode_element(body, wire));
                encoded.map_err(GatewayError::from)?
            }
        };
        Ok(encoded)
    }

    fn last_event_id(&self) -> Option<(HeaderName, HeaderValue)> {
        let value = self.lane.head.header(LAST_EVENT_ID.as_str())?;
        Some((LAST_EVENT_ID, HeaderValue::from_bytes(value).ok()?))
    }

    /// Whether the client gets a stream, and not one message.
    fn streams(&self) -> bool {
        self.streamed.transcoded.binding.server_streaming
    }

    /// Adds the headers that metadata becomes.
    fn returning(&self, entries: (&HeaderMap, &HeaderMap), answer: &mut Answer) {
        let rule = self.streamed.transcoded.returning;
        metadata::returning(rule, &[], entries, &mut answer.headers);
    }

    /// Whether the client reads trailers (RFC 9110 section 10.1.4).
    fn takes_trailers(&self) -> bool {
        let te = self.lane.head.header("te").unwrap_or_default();
        let mut codings = te.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        codings.any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
    }

    /// Whether each piece of the request is a message.
    fn is_chat(&self) -> bool {
        self.form == Form::Message
    }

    fn takes_any_body(&self) -> bool {
        self.streamed.transcoded.binding.takes_any_body()
    }

    fn gives_any_body(&self) -> bool {
        self.streamed.transcoded.binding.gives_any_body()
    }

    /// Appends a piece of a body that is given as it is.
    fn download(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Ended> {
        let binding = &self.streamed.transcoded.binding;
        let download = binding
            .decode_download(message)
            .map_err(GatewayError::from)?;
        self.content_type.get_or_insert_with(|| type_of(download));
        out.extend_from_slice(download.data);
        Ok(())
    }

    fn decode(&mut self, message: &[u8]) -> Result<(), Ended> {
        self.json.clear();
        if self.gives_any_body() {
            let mut body = std::mem::take(&mut self.json);
            let downloaded = self.download(message, &mut body);
            self.json = body;
            return downloaded;
        }
        let binding = &self.streamed.transcoded.binding;
        let decoded = binding.decode_response(message, &mut self.json);
        Ok(decoded.map_err(GatewayError::from)?)
    }
}

impl Face for Json<'_, '_> {
    fn push(&mut self, piece: Bytes) -> Result<(), Ended> {
        match self.takes_any_body() || self.is_chat() {
            true => self.piece = piece,
            false => self.elements.push(&piece),
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Bytes>, Ended> {
        if self.takes_any_body() || self.is_chat() {
            let piece = std::mem::take(&mut self.piece);
            let some = (!piece.is_empty()).then_some(piece);
            return some.map(|piece| self.encode(&piece)).transpose();
        }
        let element = self.elements.next().map_err(refused_body)?;
        element.map(|element| self.encode(&element)).transpose()
    }

    fn last(&mut self) -> Result<Bytes, Ended> {
        if self.takes_any_body() {
            // Path and query are told even if there is no body.
            return match self.introduced {
                true => Ok(Bytes::new()),
                false => self.encode(&[]),
            };
        }
        let element = self.elements.last().map_err(refused_body)?;
        element.map_or(Ok(Bytes::new()), |element| self.encode(&element))
    }

    /// Readers of events want to know that there is somebody.
    fn is_eager(&self) -> bool {
        self.form == Form::Sse && self.streams() && !self.gives_any_body()
    }

    fn begin(&mut self, metadata: &HeaderMap) -> Answer {
        let mut answer = match self.gives_any_body() {
            true => {
                let kind = self.content_type.take();
                let kind = kind.unwrap_or_else(|| type_of(Download::default()));
                Answer::new(200, kind, Vec::new())
            }
            false => self.form.answer(),
        };
        self.returning((metadata, &HeaderMap::new()), &mut answer);
        answer
    }

    fn message(&mut self, message: Bytes, out: &mut Vec<u8>) -> Result<(), Ended> {
        if !self.streams() {
            return match self.only.replace(message) {
                None => Ok(()),
                Some(_) => {
                    Err(GatewayError::from(CallError::Malformed("more than one message")).into())
                }
            };
        }
        if self.gives_any_body() {
            return self.download(&message, out);
        }
        self.decode(&message)?;
        let number = self.before.wrapping_add(self.count).wrapping_add(1);
        self.form.message(&self.json, self.count, number, out);
        self.count += 1;
        Ok(())
    }

    fn end(&mut self, reply: Reply, out: &mut Vec<u8>) -> Result<Finish, Ended> {
        if reply.code != code::OK {
            return Err(GatewayError::Backend(Box::new(reply)).into());
        }
        if self.streams() {
            if !self.gives_any_body() {
                self.form.end(self.count, out);
            }
            let rule = self.streamed.transcoded.returning;
            let trailers = || metadata::trailing(rule, &reply.trailers);
            return Ok(Finish::Streamed(self.takes_trailers().then(trailers)));
        }
        let missing = GatewayError::Call(CallError::Malformed("status OK without a message"));
        let only = self.only.take().ok_or(missing)?;
        self.decode(&only)?;
        let own = || self.streamed.transcoded.content_type.clone();
        let content_type = self.content_type.take().unwrap_or_else(own);
        let json = std::mem::take(&mut self.json);
        let mut answer = Answer::new(200, content_type, json);
        self.returning((&reply.headers, &reply.trailers), &mut answer);
        Ok(Finish::Whole(Box::new(answer)))
    }

    fn failure(&mut self, told: Answer, out: &mut Vec<u8>) -> Result<Option<HeaderMap>, BrokenOff> {
        if self.is_chat() {
            return Err(BrokenOff(Some(Box::new(told))));
        }
        if self.gives_any_body() {
            // Whatever were appended would be part of a file.
            return Err(BrokenOff(None));
        }
        self.form.failure(&told.body, self.count, out);
        Ok(None)
    }

    fn keep_alive(&self) -> Option<&'static [u8]> {
        self.form.keep_alive().filter(|_| !self.gives_any_body())
    }
}

fn refused_body(error: elements::ElementError) -> Ended {
    match error {
        elements::ElementError::TooLarge => Refusal::BodyTooLarge.into(),
        other => Ended::Failed(GatewayError::Elements(other.to_string())),
    }
}

/// The whole body of a request that is not streamed.
async fn gather(client: &mut dyn Client, most: usize) -> Result<Vec<u8>, Ended> {
    let mut body = Vec::new();
    while let Some(piece) = poll_fn(|cx| client.poll_read(cx)).await? {
        if body.len() + piece.len() > most {
            return Err(Refusal::BodyTooLarge.into());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
