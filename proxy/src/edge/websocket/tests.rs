#![allow(clippy::unwrap_used)]
use std::future::poll_fn;

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// A connection in memory; whoever reads more than there is waits.
#[derive(Default)]
struct Memory {
    incoming: VecDeque<Bytes>,
    ended: bool,
    written: Vec<u8>,
    /// The client takes nothing.
    stuck: bool,
}

impl Client for Memory {
    fn poll_read(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        match self.incoming.pop_front() {
            Some(piece) => Poll::Ready(Ok(Some(piece))),
            None if self.ended => Poll::Ready(Err(ReadError::Gone)),
            None => Poll::Pending,
        }
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.ended {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn begin(&mut self, _: Answer) {}

    fn write(&mut self, piece: &[u8]) {
        self.written.extend_from_slice(piece);
    }

    fn unsent(&self) -> usize {
        if self.stuck { self.written.len() } else { 0 }
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match self.stuck {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        }
    }

    fn end(&mut self, _: Option<HeaderMap>) {}
}

fn socket(ends_by_close: bool) -> WebSocket<Memory> {
    let upgrade = Upgrade {
        call: (),
        headers: Default::default(),
        method: http::Method::GET,
        parameter: None,
        max_message: 100,
        text: true,
        ends_by_close,
    };
    WebSocket::new(Memory::default(), &upgrade)
}

/// A frame as a client sends it; a mask of zeros changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126, "a length of one byte");
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

async fn read(socket: &mut WebSocket<Memory>) -> Result<Option<Bytes>, ReadError> {
    poll_fn(|cx| socket.poll_read(cx)).await
}

fn sent(socket: &mut WebSocket<Memory>, frames: &[Vec<u8>]) {
    socket.inner.incoming.push_back(frames.concat().into());
}

#[tokio::test]
async fn messages_are_pieces_and_an_empty_one_is_the_end() {
    let mut socket = socket(false);
    let frames = [
        frame(0x81, b"one"),
        frame(0x89, b"ping"),
        frame(0x81, b" \n"),
        frame(0x01, b"tw"),
        frame(0x80, b"o"),
        frame(0x82, b"three"),
        frame(0x81, b""),
        frame(0x81, b"late"),
    ];
    sent(&mut socket, &frames);
    for expected in ["one", "two", "three"] {
        assert_eq!(read(&mut socket).await.unwrap().unwrap(), expected);
    }
    assert_eq!(read(&mut socket).await, Ok(None));
    assert_eq!(socket.inner.written, b"\x8a\x04ping");
    socket.inner.written.clear();
    socket.write(b"{}");
    socket.end(None);
    assert_eq!(socket.inner.written, b"\x81\x02{}\x88\x02\x03\xe8");
}

#[tokio::test]
async fn who_closes_goes_away_or_ends() {
    for (by_close, code, expected) in [
        (false, 1000, Err(ReadError::Gone)),
        (true, 1000, Ok(None)),
        (true, 1001, Err(ReadError::Gone)),
    ] {
        let mut socket = socket(by_close);
        let code = u16::to_be_bytes(code);
        sent(&mut socket, &[frame(0x81, b"1"), frame(0x88, &code)]);
        assert_eq!(read(&mut socket).await.unwrap().unwrap(), "1");
        assert_eq!(read(&mut socket).await, expected, "{code:?}");
        let reply = [&[0x88, 2][..], &code].concat();
        assert_eq!(socket.inner.written, reply);
        socket.write(b"nobody reads this");
        socket.finish(None);
        assert_eq!(socket.inner.written, reply);
    }
}

#[tokio::test]
async fn what_is_no_message_closes_with_the_reason() {
    for (bytes, code, refusal) in [
        (frame(0x81, b"\xff"), 1007, 400),
        (vec![0x81, 0xfe, 0, 200, 0, 0, 0, 0], 1009, 413),
        (vec![0x81, 0x01, b'x'], 1002, 400),
        (frame(0xc1, b"x"), 1002, 400),
        (frame(0x83, b"x"), 1002, 400),
    ] {
        let mut socket = socket(false);
        sent(&mut socket, std::slice::from_ref(&bytes));
        let Err(ReadError::Refused(refused)) = read(&mut socket).await else {
            panic!("{bytes:?} was taken");
        };
        assert_eq!(refused.status(), refusal, "{bytes:?}");
        let kind = HeaderValue::from_static("application/json");
        socket.finish(Some(Answer::new(refusal, kind, b"{}".to_vec())));
        let written = &socket.inner.written;
        assert!(
            written.starts_with(b"\x81\x0c{\"error\":{}}\x88"),
            "{written:?}"
        );
        assert_eq!(written[16..18], u16::to_be_bytes(code), "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_silent_is_asked_and_then_gone() {
    let mut socket = socket(false);
    let began = Instant::now();
    assert_eq!(read(&mut socket).await, Err(ReadError::Gone));
    assert_eq!(began.elapsed(), 2 * SILENCE);
    assert_eq!(socket.inner.written, b"\x89\x00");
}

#[tokio::test]
async fn what_is_read_ahead_and_answered_is_bounded() {
    let mut reader = socket(false);
    for _ in 0..10_000 {
        sent(&mut reader, &[frame(0x81, &[b'1'; 100])]);
    }
    let mut gone = poll_gone(&mut reader);
    assert!(gone.is_pending());
    let left = reader.inner.incoming.len();
    assert!((9_000..10_000).contains(&left), "{left} were not read");
    reader.inner.ended = true;
    gone = poll_gone(&mut reader);
    assert!(gone.is_ready(), "a close is seen all the same");

    let mut deaf = socket(false);
    deaf.inner.stuck = true;
    for _ in 0..10_000 {
        sent(&mut deaf, &[frame(0x89, &[b'1'; 100])]);
    }
    assert!(poll_gone(&mut deaf).is_pending());
    assert!(deaf.inner.written.len() < 2 * UNSENT);
}

fn poll_gone(socket: &mut WebSocket<Memory>) -> Poll<()> {
    socket.poll_gone(&mut Context::from_waker(std::task::Waker::noop()))
}

proptest! {
    #[test]
    fn no_bytes_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..20), close: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut socket = socket(close);
            socket.inner.incoming.extend(pieces.into_iter().map(Bytes::from));
            socket.inner.ended = true;
            let mut taken = 0;
            while let Ok(Some(message)) = read(&mut socket).await {
                assert!(message.len() <= 100);
                taken += 1;
                assert!(taken < 1000);
            }
            socket.finish(None);
        });
    }

    #[test]
    fn messages_come_however_they_are_cut(messages in prop::collection::vec("[a-z]{1,60}", 0..12), cut in 1usize..50) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut socket = socket(false);
            let bytes: Vec<u8> = messages.iter().flat_map(|text| frame(0x81, text.as_bytes())).collect();
            socket.inner.incoming.extend(bytes.chunks(cut).map(Bytes::copy_from_slice));
            socket.inner.ended = true;
            for message in &messages {
                assert_eq!(read(&mut socket).await.unwrap().unwrap(), message.as_bytes());
            }
            assert_eq!(read(&mut socket).await, Err(ReadError::Gone));
        });
    }
}
