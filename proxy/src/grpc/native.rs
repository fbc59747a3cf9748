//! A client that speaks gRPC: its bytes are the backend's, but for the base64 and the last frame of gRPC-Web.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::dialect::{Dialect, Spoken};
use super::{head, status, web};
use crate::edge::Answer;
use crate::error::GatewayError;
use crate::stream::{BrokenOff, Ended, Face, Finish};
use crate::upstream::Reply;

/// The client of one call.
pub(super) struct Native {
    content_type: HeaderValue,
    /// What decodes the request, if it is text.
    decoder: Option<web::Decoder>,
    /// What encodes the answer, if that is text.
    encoder: Option<web::Encoder>,
    /// The status is a frame.
    framed: bool,
    /// Of the request.
    piece: Bytes,
    /// The answer is one message: text of it need not be padded before the end.
    single: bool,
    begun: bool,
    /// The dialect of a refusal.
    answer: Dialect,
}

impl Native {
    /// `single`: the answer is known to be one message.
    pub(super) fn new(spoken: Spoken<'_>, single: bool) -> Self {
        Self {
            content_type: spoken.content_type(),
            decoder: (spoken.dialect == Dialect::WebText).then(web::Decoder::default),
            encoder: (spoken.answer == Dialect::WebText).then(web::Encoder::default),
            framed: spoken.answer != Dialect::Grpc,
            piece: Bytes::new(),
            single,
            begun: false,
            answer: spoken.answer,
        }
    }

    /// Ends an answer that has begun.
    fn finish(&mut self, trailers: HeaderMap, out: &mut Vec<u8>) -> Option<HeaderMap> {
        if !self.framed {
            return Some(trailers);
        }
        match &mut self.encoder {
            Some(encoder) => {
                encoder.push(&web::trailers_frame(&trailers), out);
                encoder.flush(out);
            }
            None => web::last_frame(self.answer, &trailers, out),
        }
        None
    }
}

impl Face for Native {
    fn push(&mut self, piece: Bytes) -> Result<(), Ended> {
        self.piece = match &mut self.decoder {
            Some(decoder) => decoder.push(&piece)?.into(),
            None => piece,
        };
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Bytes>, Ended> {
        let piece = std::mem::take(&mut self.piece);
        Ok((!piece.is_empty()).then_some(piece))
    }

    fn last(&mut self) -> Result<Bytes, Ended> {
        match &mut self.decoder {
            Some(decoder) => Ok(decoder.last()?.into()),
            None => Ok(Bytes::new()),
        }
    }

    fn is_eager(&self) -> bool {
        true
    }

    fn begin(&mut self, metadata: &HeaderMap) -> Answer {
        self.begun = true;
        let headers = head::headers(self.content_type.clone(), metadata);
        Answer {
            status: 200,
            headers,
            ..Answer::default()
        }
    }

    fn message(&mut self, message: Bytes, out: &mut Vec<u8>) -> Result<(), Ended> {
        match &mut self.encoder {
            None => out.extend_from_slice(&message),
            Some(encoder) => {
                encoder.push(&message, out);
                if !self.single {
                    encoder.flush(out);
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, reply: Reply, out: &mut Vec<u8>) -> Result<Finish, Ended> {
        // What a backend says in one head is handed on as one.
        let only_status = !self.begun && reply.headers.is_empty();
        let trailers = status::trailers(reply);
        Ok(match only_status {
            true => {
                let kind = self.content_type.clone();
                Finish::Whole(Box::new(status::only_status(kind, self.answer, trailers)))
            }
            false => Finish::Streamed(self.finish(trailers, out)),
        })
    }

    fn failure(&mut self, told: Answer, out: &mut Vec<u8>) -> Result<Option<HeaderMap>, BrokenOff> {
        Ok(self.finish(status::trailers_of(&told), out))
    }
}

impl From<web::NotBase64> for Ended {
    fn from(_: web::NotBase64) -> Self {
        Self::Failed(GatewayError::Elements("it is not base64".to_owned()))
    }
}
