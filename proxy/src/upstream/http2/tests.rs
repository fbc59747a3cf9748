//! The state machine, frame by frame, without a socket.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use h2::Reason;
use proptest::prelude::*;

use super::frame::{self, Head};
use super::machine::{CONNECTION_WINDOW, Fatal};
use super::send::Closed;
use super::*;
use crate::upstream::error::CallError;
use crate::upstream::reply::Reply;

/// HPACK, all literal: `:status: 200`, `content-type: application/grpc`; `grpc-status: 0`.
const OK_HEAD: &[u8] = b"\x88\x0f\x10\x10application/grpc";
const OK_TRAILERS: &[u8] = b"\x00\x0bgrpc-status\x010";
const NO_SETTINGS: &[(u16, u32)] = &[];

mod broken_peers;

struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn head() -> RequestHead<'static> {
    RequestHead {
        path: "/a.B/C",
        authority: "backend:1",
        timeout: b"1S",
        metadata: &[],
        coding: None,
        passed: false,
    }
}

fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::head(&mut out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
    out
}

fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::settings(&mut out, settings);
    out
}

/// A connection whose peer has these settings, everything written.
fn open(with: &[(u16, u32)]) -> Core {
    let mut core = Core::new();
    let settings = settings(with);
    assert_eq!(core.receive(&settings), Ok(settings.len()));
    flush(&mut core);
    core
}

/// The frames that are to be written; they are written now.
fn flush(core: &mut Core) -> Vec<(Head, Vec<u8>)> {
    let mut rest = core.unsent().to_vec();
    core.wrote(rest.len());
    if rest.starts_with(frame::PREFACE) {
        rest.drain(..frame::PREFACE.len());
    }
    let (mut frames, mut rest) = (Vec::new(), &rest[..]);
    while let Some(head) = Head::parse(rest) {
        let end = frame::HEAD + head.length;
        frames.push((head, rest[frame::HEAD..end].to_vec()));
        rest = &rest[end..];
    }
    assert!(rest.is_empty());
    frames
}

fn kinds(frames: &[(Head, Vec<u8>)]) -> Vec<(u8, u8, u32)> {
    frames
        .iter()
        .map(|(head, _)| (head.kind, head.flags, head.stream))
        .collect()
}

fn start(core: &mut Core, message: &'static [u8]) -> u32 {
    core.start(&head(), Bytes::from_static(message), 1000)
        .expect("an open connection")
}

fn poll(core: &mut Core, id: u32) -> Poll<Result<Reply, Failure>> {
    core.poll_reply(id, &Context::from_waker(Waker::noop()))
}

fn outcome(core: &mut Core, id: u32) -> Result<Reply, Failure> {
    match poll(core, id) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("call {id} has no outcome"),
    }
}

/// The frames of a whole answer.
fn answer(stream: u32, message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
    framed.extend_from_slice(message);
    [
        bytes(frame::HEADERS, frame::END_HEADERS, stream, OK_HEAD),
        bytes(frame::DATA, 0, stream, &framed),
        bytes(
            frame::HEADERS,
            frame::END_HEADERS | frame::END_STREAM,
            stream,
            OK_TRAILERS,
        ),
    ]
    .concat()
}

#[test]
fn it_opens_with_preface_settings_and_a_large_window() {
    let mut core = Core::new();
    assert!(core.unsent().starts_with(frame::PREFACE) && !core.is_open());
    assert_eq!(core.start(&head(), Bytes::new(), 9), Err(Closed));
    assert_eq!(
        kinds(&flush(&mut core)),
        [(frame::SETTINGS, 0, 0), (frame::WINDOW_UPDATE, 0, 0)]
    );
    core.receive(&settings(NO_SETTINGS)).unwrap();
    assert!(core.is_open());
    assert_eq!(kinds(&flush(&mut core)), [(frame::SETTINGS, frame::ACK, 0)]);
}

#[test]
fn a_call_is_two_frames_out_and_wakes_once_it_is_answered() {
    let mut core = open(NO_SETTINGS);
    let id = start(&mut core, b"\0\0\0\0\x01x");
    let frames = flush(&mut core);
    assert_eq!(
        kinds(&frames),
        [
            (frame::HEADERS, frame::END_HEADERS, 1),
            (frame::DATA, frame::END_STREAM, 1)
        ]
    );
    assert_eq!(frames[1].1, b"\0\0\0\0\x01x");
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    assert!(
        core.poll_reply(id, &Context::from_waker(&waker))
            .is_pending()
    );
    let answer = answer(id, b"hello");
    core.receive(&answer[..answer.len() - 1]).unwrap();
    assert_eq!(woken.0.load(SeqCst), 0);
    let last = bytes(
        frame::HEADERS,
        frame::END_HEADERS | frame::END_STREAM,
        id,
        OK_TRAILERS,
    );
    core.receive(&last).unwrap();
    assert_eq!(woken.0.load(SeqCst), 1);
    let reply = outcome(&mut core, id).unwrap();
    assert_eq!((reply.code, &reply.body[..]), (0, &b"hello"[..]));
    assert!(core.calls.is_empty() && flush(&mut core).is_empty());
}

#[test]
fn cancelled_calls_are_reset_and_their_late_frames_dropped() {
    let mut core = open(NO_SETTINGS);
    let (first, second) = (
        start(&mut core, b"\0\0\0\0\0"),
        start(&mut core, b"\0\0\0\0\0"),
    );
    flush(&mut core);
    core.cancel(first);
    let frames = flush(&mut core);
    assert_eq!(kinds(&frames), [(frame::RST_STREAM, 0, first)]);
    assert_eq!(frames[0].1, u32::from(Reason::CANCEL).to_be_bytes());
    core.receive(&[answer(first, b"late"), answer(second, b"good")].concat())
        .unwrap();
    assert_eq!(outcome(&mut core, second).unwrap().body, "good");
    core.cancel(second);
    assert!(flush(&mut core).is_empty(), "a call that is over is reset");
}

#[test]
fn windows_hold_a_message_back_and_let_it_go() {
    let mut core = open(&[(frame::setting::INITIAL_WINDOW_SIZE, 10)]);
    let id = start(&mut core, b"0123456789abcdefghijklmno");
    let (_, data) = flush(&mut core).pop().unwrap();
    assert_eq!(data, b"0123456789");
    core.receive(&bytes(frame::WINDOW_UPDATE, 0, id, &5u32.to_be_bytes()))
        .unwrap();
    assert_eq!(flush(&mut core)[0].1, b"abcde");
    // A larger initial window counts for streams that are open.
    core.receive(&settings(&[(frame::setting::INITIAL_WINDOW_SIZE, 18)]))
        .unwrap();
    let frames = flush(&mut core);
    let data: Vec<_> = frames
        .iter()
        .filter(|(head, _)| head.kind == frame::DATA)
        .collect();
    assert_eq!(
        (&data[0].1[..], data[0].0.has(frame::END_STREAM)),
        (&b"fghijklm"[..], false)
    );
    core.receive(&bytes(frame::WINDOW_UPDATE, 0, id, &2u32.to_be_bytes()))
        .unwrap();
    let frames = flush(&mut core);
    assert_eq!(
        (&frames[0].1[..], frames[0].0.has(frame::END_STREAM)),
        (&b"no"[..], true)
    );
}

#[test]
fn the_connections_window_is_shared_in_order() {
    static LARGE: [u8; 40_000] = [7; 40_000];
    let mut core = open(&[(frame::setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
    let ids = [
        start(&mut core, &LARGE),
        start(&mut core, &LARGE),
        start(&mut core, b"small"),
    ];
    let sent = |frames: &[(Head, Vec<u8>)], id| -> usize {
        frames
            .iter()
            .filter(|(head, _)| head.kind == frame::DATA && head.stream == id)
            .map(|(_, data)| data.len())
            .sum()
    };
    let frames = flush(&mut core);
    assert!(
        frames
            .iter()
            .all(|(head, _)| head.length <= frame::DEFAULT_MAX)
    );
    assert_eq!(ids.map(|id| sent(&frames, id)), [40_000, 25_535, 0]);
    core.receive(&bytes(
        frame::WINDOW_UPDATE,
        0,
        0,
        &100_000u32.to_be_bytes(),
    ))
    .unwrap();
    let frames = flush(&mut core);
    assert_eq!(ids.map(|id| sent(&frames, id)), [0, 14_465, 5]);
}

#[test]
fn windows_are_filled_up_while_data_comes() {
    let mut core = open(NO_SETTINGS);
    let id = core
        .start(&head(), Bytes::from_static(b"\0\0\0\0\0"), 1 << 30)
        .unwrap();
    flush(&mut core);
    core.receive(&bytes(frame::HEADERS, frame::END_HEADERS, id, OK_HEAD))
        .unwrap();
    let (mut received, mut granted, mut of_stream) =
        (0u64, u64::from(CONNECTION_WINDOW), 4u64 << 20);
    let mut chunk = vec![1; frame::DEFAULT_MAX];
    chunk[..5].copy_from_slice(&[0, 0x3f, 0, 0, 0]);
    for _ in 0..20_000 {
        core.receive(&bytes(frame::DATA, 0, id, &chunk)).unwrap();
        received += chunk.len() as u64;
        for (head, payload) in flush(&mut core) {
            assert_eq!(head.kind, frame::WINDOW_UPDATE);
            let more = u64::from(u32::from_be_bytes(payload[..].try_into().unwrap()));
            *(if head.stream == 0 {
                &mut granted
            } else {
                &mut of_stream
            }) += more;
        }
        assert!(received < granted && received < of_stream);
    }
}

#[test]
fn a_goaway_splits_calls_by_what_it_covers() {
    let mut core = open(NO_SETTINGS);
    let (covered, refused) = (
        start(&mut core, b"\0\0\0\0\0"),
        start(&mut core, b"\0\0\0\0\0"),
    );
    flush(&mut core);
    core.receive(&bytes(
        frame::GOAWAY,
        0,
        0,
        &[covered.to_be_bytes(), [0; 4]].concat(),
    ))
    .unwrap();
    assert!(matches!(
        outcome(&mut core, refused),
        Err(Failure::NotCovered)
    ));
    assert!(poll(&mut core, covered).is_pending() && !core.is_finished());
    assert_eq!(core.start(&head(), Bytes::new(), 9), Err(Closed));
    core.receive(&answer(covered, b"x")).unwrap();
    assert!(core.is_finished());
    assert_eq!(outcome(&mut core, covered).unwrap().body, "x");
}

#[test]
fn the_end_of_the_connection_tells_who_was_sent() {
    let mut core = open(NO_SETTINGS);
    let sent = start(&mut core, b"\0\0\0\0\0");
    flush(&mut core);
    let begun = start(&mut core, b"\0\0\0\0\0");
    core.wrote(1);
    let waiting = start(&mut core, b"\0\0\0\0\0");
    core.end("broken");
    assert!(matches!(outcome(&mut core, sent), Err(Failure::Lost(_))));
    assert!(matches!(outcome(&mut core, begun), Err(Failure::Lost(_))));
    assert!(matches!(
        outcome(&mut core, waiting),
        Err(Failure::NotSent(_))
    ));
    assert_eq!(core.start(&head(), Bytes::new(), 9), Err(Closed));
}

#[test]
fn resets_reach_their_call_alone() {
    let mut core = open(NO_SETTINGS);
    let (first, second) = (
        start(&mut core, b"\0\0\0\0\0"),
        start(&mut core, b"\0\0\0\0\0"),
    );
    core.receive(&bytes(frame::RST_STREAM, 0, first, &7u32.to_be_bytes()))
        .unwrap();
    assert!(matches!(
        outcome(&mut core, first),
        Err(Failure::Reset(Reason::REFUSED_STREAM))
    ));
    assert!(poll(&mut core, second).is_pending());
    // After a whole answer a reset changes nothing.
    core.receive(
        &[
            answer(second, b"x"),
            bytes(frame::RST_STREAM, 0, second, &[0; 4]),
        ]
        .concat(),
    )
    .unwrap();
    assert_eq!(outcome(&mut core, second).unwrap().body, "x");
}

#[test]
fn informational_headers_padding_and_unknown_frames_are_skipped() {
    let mut core = open(NO_SETTINGS);
    let id = start(&mut core, b"\0\0\0\0\0");
    core.receive(&bytes(
        frame::HEADERS,
        frame::END_HEADERS,
        id,
        b"\x08\x03103",
    ))
    .unwrap();
    core.receive(&bytes(0xee, 0xff, 77, b"whatever")).unwrap();
    let padded = [&[3][..], OK_HEAD, &[0; 3]].concat();
    core.receive(&bytes(
        frame::HEADERS,
        frame::END_HEADERS | frame::PADDED,
        id,
        &padded,
    ))
    .unwrap();
    core.receive(&bytes(
        frame::DATA,
        frame::PADDED,
        id,
        b"\x04\0\0\0\0\x01x\0\0\0\0",
    ))
    .unwrap();
    let (start, end) = OK_TRAILERS.split_at(4);
    core.receive(&bytes(frame::HEADERS, frame::END_STREAM, id, start))
        .unwrap();
    core.receive(&bytes(frame::CONTINUATION, frame::END_HEADERS, id, end))
        .unwrap();
    assert_eq!(outcome(&mut core, id).unwrap().body, "x");
}

#[test]
fn pings_are_asked_and_answered() {
    let mut core = open(NO_SETTINGS);
    core.receive(&bytes(frame::PING, 0, 0, b"12345678"))
        .unwrap();
    core.ping();
    let frames = flush(&mut core);
    assert_eq!(
        kinds(&frames),
        [(frame::PING, frame::ACK, 0), (frame::PING, 0, 0)]
    );
    assert_eq!(frames[0].1, b"12345678");
}

#[test]
fn ids_run_out_with_dignity() {
    let mut core = open(NO_SETTINGS);
    core.next = machine::LAST_ID;
    let id = start(&mut core, b"\0\0\0\0\0");
    assert_eq!(id, machine::LAST_ID);
    assert_eq!(core.start(&head(), Bytes::new(), 9), Err(Closed));
    core.receive(&answer(id, b"x")).unwrap();
    assert!(outcome(&mut core, id).is_ok() && core.is_finished());
}

#[test]
fn a_table_that_shrinks_under_our_entries_ends_the_connections_use() {
    let mut core = open(NO_SETTINGS);
    let id = start(&mut core, b"\0\0\0\0\0");
    core.receive(&settings(&[(frame::setting::HEADER_TABLE_SIZE, 100)]))
        .unwrap();
    assert_eq!(core.start(&head(), Bytes::new(), 9), Err(Closed));
    core.receive(&answer(id, b"x")).unwrap();
    assert!(outcome(&mut core, id).is_ok());
}

proptest! {
    /// However the bytes of good answers are cut by the network, the replies are the same.
    #[test]
    fn cuts_do_not_matter(cuts in proptest::collection::vec(0usize..400, 0..12), calls in 1usize..6) {
        let mut core = open(NO_SETTINGS);
        let ids: Vec<_> = (0..calls).map(|_| start(&mut core, b"\0\0\0\0\0")).collect();
        let all: Vec<u8> = ids.iter().rev().flat_map(|id| answer(*id, b"hello")).collect();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(all.len())).chain([0, all.len()]).collect();
        cuts.sort_unstable();
        let mut pending = Vec::new();
        for pair in cuts.windows(2) {
            pending.extend_from_slice(&all[pair[0]..pair[1]]);
            let taken = core.receive(&pending).unwrap();
            pending.drain(..taken);
        }
        prop_assert!(pending.is_empty());
        for id in ids {
            prop_assert_eq!(&outcome(&mut core, id).unwrap().body[..], b"hello");
        }
    }

    /// Any frames with any content: errors, not panics, and no call left without an end.
    #[test]
    fn no_frames_panic(frames in proptest::collection::vec((0u8..11, any::<u8>(), 0u32..8, proptest::collection::vec(any::<u8>(), 0..24)), 0..24)) {
        let mut core = open(NO_SETTINGS);
        let ids = [start(&mut core, b"\0\0\0\0\x03abc"), start(&mut core, b"\0\0\0\0\0")];
        for (kind, flags, stream, payload) in frames {
            if let Err(fatal) = core.receive(&bytes(kind, flags, stream, &payload)) {
                core.fail(fatal);
                break;
            }
            flush(&mut core);
        }
        core.end("over");
        for id in ids {
            prop_assert!(poll(&mut core, id).is_ready());
        }
    }
}
