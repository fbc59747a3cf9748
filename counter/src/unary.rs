//! A unary call without the layers between HTTP/2 and the service: one message in, one out, the status in the trailers.
//!
//! For the increment, which is called so much more often than all else that what a call costs counts. It takes what tonic takes and
//! answers as tonic does; a compressed request is tonic's to answer. Protocol:
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::{Bytes, Frame, Incoming};
use prost::Message;
use tonic::Status;
use tonic::body::Body;

/// The longest message that is taken: tonic's default.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");

/// Whether a request can be read here.
pub(crate) fn is_plain(headers: &HeaderMap) -> bool {
    headers
        .get(ENCODING)
        .is_none_or(|encoding| encoding == "identity")
}

/// Reads the message of a call: its metadata and what it says.
pub(crate) async fn read<M: Message + Default>(
    request: Request<Incoming>,
) -> Result<(HeaderMap, M), Status> {
    let (head, body) = request.into_parts();
    let message = unframed(whole(body).await?)?;
    Ok((head.headers, message))
}

/// Everything that the caller sends; mostly one piece.
async fn whole<B>(mut body: B) -> Result<Bytes, Status>
where
    B: hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Unpin,
{
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|error| Status::from_error(error.into()))?;
        // Trailers of a request say nothing.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
        if first.len().max(all.len()) > MAX_MESSAGE + PREFIX {
            return Err(Status::out_of_range(format!(
                "the message is longer than {MAX_MESSAGE} bytes"
            )));
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// The one message that this is.
fn unframed<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    let Some((&compressed, rest)) = bytes.split_first() else {
        return Err(Status::internal("Missing request message."));
    };
    if compressed != 0 {
        return Err(Status::unimplemented(
            "the message is compressed, and no grpc-encoding says how",
        ));
    }
    let length = rest.first_chunk().map(|length| u32::from_be_bytes(*length));
    if length.is_none_or(|length| length as usize + PREFIX != bytes.len()) {
        return Err(Status::internal("a unary call has one message, whole"));
    }
    M::decode(bytes.slice(PREFIX..)).map_err(|error| Status::internal(error.to_string()))
}

/// The answer to a call that ended well.
pub(crate) fn answer(message: &impl Message) -> Response<Answer> {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(PREFIX + length);
    bytes.push(0);
    // An answer is far below 4 GiB.
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    message.encode_raw(&mut bytes);
    let mut response = Response::new(Answer::Message(bytes.into()));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// The body of an answer.
pub(crate) enum Answer {
    /// A message, and after it that all is well.
    Message(Bytes),
    Trailers,
    End,
    /// What tonic says.
    Tonic(Body),
}

impl From<Body> for Answer {
    fn from(body: Body) -> Self {
        Self::Tonic(body)
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match &mut *self {
            Self::Tonic(body) => return hyper::body::Body::poll_frame(Pin::new(body), context),
            Self::End => return Poll::Ready(None),
            Self::Message(bytes) => {
                let frame = Frame::data(std::mem::take(bytes));
                *self = Self::Trailers;
                frame
            }
            Self::Trailers => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(STATUS, OK);
                *self = Self::End;
                Frame::trailers(trailers)
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Tonic(body) => hyper::body::Body::is_end_stream(body),
            Self::End => true,
            Self::Message(_) | Self::Trailers => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use hyper::body::Body as _;
    use proto::counter::IncrementRequest;
    use tonic::Code;

    use super::*;

    /// What a caller sends, piece by piece.
    struct Pieces(VecDeque<Bytes>);

    impl hyper::body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
        }
    }

    async fn read_pieces(pieces: &[&[u8]]) -> Result<IncrementRequest, Status> {
        let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece));
        unframed(whole(Pieces(pieces.collect())).await?)
    }

    fn framed(request: &IncrementRequest) -> Vec<u8> {
        let message = request.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &length[..], &message].concat()
    }

    #[tokio::test]
    async fn a_message_is_read_in_whatever_pieces_it_comes() {
        let request = IncrementRequest {
            resource_id: "article_001".to_owned(),
            counter_type: "like".to_owned(),
            delta: -7,
        };
        let bytes = framed(&request);
        for at in 0..=bytes.len() {
            let (begin, end) = bytes.split_at(at);
            assert_eq!(read_pieces(&[begin, end]).await.unwrap(), request, "{at}");
            assert_eq!(read_pieces(&[begin, &[], end]).await.unwrap(), request);
        }
        let each: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read_pieces(&each).await.unwrap(), request);
        let nothing = framed(&IncrementRequest::default());
        assert_eq!(
            read_pieces(&[&nothing]).await.unwrap(),
            IncrementRequest::default()
        );
    }

    #[tokio::test]
    async fn what_is_not_one_plain_message_is_refused() {
        let one = framed(&IncrementRequest::default());
        let two = [one.clone(), one.clone()].concat();
        let code = async |pieces: &[&[u8]]| read_pieces(pieces).await.unwrap_err().code();
        assert_eq!(code(&[]).await, Code::Internal);
        assert_eq!(code(&[&one[..3]]).await, Code::Internal);
        assert_eq!(code(&[&two]).await, Code::Internal);
        assert_eq!(code(&[&[0, 0, 0, 0, 9, 1]]).await, Code::Internal);
        assert_eq!(code(&[&[1, 0, 0, 0, 0]]).await, Code::Unimplemented);
        assert_eq!(
            code(&[&[0, 0, 0, 0, 1, 0xff]]).await,
            Code::Internal,
            "no protobuf"
        );
        let long = vec![0; MAX_MESSAGE / 2];
        assert_eq!(code(&[&long, &long, &long]).await, Code::OutOfRange);
    }

    #[tokio::test]
    async fn an_answer_is_a_message_and_a_status() {
        let request = IncrementRequest {
            delta: 3,
            ..IncrementRequest::default()
        };
        let mut body = answer(&request).into_body();
        let mut frames = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            frames.push(frame.unwrap());
        }
        let [data, trailers] = &frames[..] else {
            panic!("{frames:?}")
        };
        assert_eq!(data.data_ref().unwrap(), &framed(&request));
        assert_eq!(trailers.trailers_ref().unwrap()[STATUS], "0");
        assert!(body.is_end_stream());
    }
}
