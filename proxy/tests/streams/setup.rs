//! A gateway before a backend that streams, and what its messages are on the wire.

use std::path::Path;

use testkit::descriptors::{self, Described};
use testkit::mesh::Gateway;
use testkit::stream_backend::{Cancelled, StreamBackend, StreamCall};
use testkit::{Http1, Response};

pub(super) struct Streams {
    pub(super) backend: StreamBackend,
    pub(super) described: Described,
}

/// A gateway whose route has these further keys, and `transcode` these options.
pub(super) async fn streams<F>(
    (route, options): (&str, &str),
    handler: impl Fn(StreamCall) -> F + Send + Sync + 'static,
) -> Streams
where
    F: Future<Output = Result<(), Cancelled>> + Send + 'static,
{
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams");
    let descriptors = descriptors::compiled(&folder, "streams.proto");
    let backend = StreamBackend::start(handler).await;
    let services = format!("[streams.v1.Streams, streams.v1.Files]{options}");
    let address = backend.address();
    let described = descriptors::transcoding(&descriptors, (&services, route), address).await;
    Streams { backend, described }
}

impl Streams {
    pub(super) fn gateway(&self) -> &Gateway {
        &self.described.gateway
    }

    /// Asks for a stream and reads its head.
    pub(super) async fn open(&self, headers: &str) -> (Http1, Response) {
        let mut client = Http1::connect(self.gateway().http()).await;
        let request = format!("GET /v1/count/1?limit=3 HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
        client.send(request.as_bytes()).await;
        let head = client.head().await.expect("an answer");
        (client, head)
    }
}

/// A `Number` on the wire.
pub(super) fn number(value: u8) -> Vec<u8> {
    assert!(value < 128, "a byte is enough");
    if value == 0 {
        Vec::new()
    } else {
        vec![8, value]
    }
}

/// The `value` and `text` of a message that has them as fields 1 and 2, small ones.
pub(super) fn value_of(message: &[u8]) -> (u8, String) {
    let (mut value, mut text) = (0, String::new());
    let mut rest = message;
    while let Some((&tag, after)) = rest.split_first() {
        match tag {
            8 => {
                value = after[0];
                rest = &after[1..];
            }
            16 => rest = &after[1..],
            18 => {
                let length = usize::from(after[0]);
                text = String::from_utf8(after[1..=length].to_vec()).unwrap();
                rest = &after[1 + length..];
            }
            other => panic!("a field {other} in {message:?}"),
        }
    }
    (value, text)
}

/// Counts from the first number on, as many as the request's limit says.
pub(super) async fn count(mut call: StreamCall) -> Result<(), Cancelled> {
    let request = call.message().await?.expect("a request");
    let field = |tag: u8| {
        let mut fields = request.chunks(2);
        fields
            .find(|field| field[0] == tag)
            .map_or(0, |field| field[1])
    };
    let (from, limit) = (field(8), field(16));
    assert_eq!(call.message().await?, None, "the request has one message");
    for value in from..from + limit {
        call.send(&number(value)).await?;
    }
    call.finish(0, "")
}
