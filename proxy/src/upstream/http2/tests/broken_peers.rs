//! Peers that break the rules: alone with one call, or with the whole connection.

use super::*;

#[test]
fn answers_that_break_the_rules_fail_alone_and_are_reset() {
    let good = bytes(frame::HEADERS, frame::END_HEADERS, 1, OK_HEAD);
    for (what, frames) in [
        ("data first", bytes(frame::DATA, 0, 1, b"\0\0\0\0\0")),
        (
            "no status",
            bytes(frame::HEADERS, frame::END_HEADERS, 1, &OK_HEAD[1..]),
        ),
        (
            "two statuses",
            bytes(frame::HEADERS, frame::END_HEADERS, 1, b"\x88\x88"),
        ),
        (
            "a request's pseudo header",
            bytes(frame::HEADERS, frame::END_HEADERS, 1, b"\x88\x83"),
        ),
        (
            "a name in capitals",
            bytes(frame::HEADERS, frame::END_HEADERS, 1, b"\x88\x00\x01A\x01b"),
        ),
        (
            "a value with a line break",
            bytes(
                frame::HEADERS,
                frame::END_HEADERS,
                1,
                b"\x88\x00\x01a\x01\n",
            ),
        ),
        ("headers in the middle", [&good[..], &good].concat()),
        (
            "a window that does not grow",
            bytes(frame::WINDOW_UPDATE, 0, 1, &[0; 4]),
        ),
    ] {
        let mut core = open(NO_SETTINGS);
        let (bad, other) = (
            start(&mut core, b"\0\0\0\0\0"),
            start(&mut core, b"\0\0\0\0\0"),
        );
        flush(&mut core);
        core.receive(&frames).expect(what);
        assert!(
            matches!(
                outcome(&mut core, bad),
                Err(Failure::Answer(CallError::Malformed(_)))
            ),
            "{what}"
        );
        assert_eq!(
            kinds(&flush(&mut core)),
            [(frame::RST_STREAM, 0, bad)],
            "{what}"
        );
        core.receive(&answer(other, b"x")).expect(what);
        assert_eq!(outcome(&mut core, other).unwrap().body, "x");
    }
}

/// Each as the first frames after the settings, with stream 1 open.
fn assert_fatal(cases: &[(&str, Vec<u8>, Reason)]) {
    for (what, frames, expected) in cases {
        let mut core = open(NO_SETTINGS);
        start(&mut core, b"\0\0\0\0\0");
        let fatal = core.receive(frames).expect_err(what);
        assert_eq!(fatal.reason, *expected, "{what}");
    }
}

#[test]
fn frames_of_the_wrong_place_lose_the_connection() {
    let block = |kind, flags, stream| bytes(kind, flags, stream, b"");
    let interrupted = [
        block(frame::HEADERS, 0, 1),
        bytes(frame::PING, 0, 0, &[0; 8]),
    ]
    .concat();
    let never = bytes(frame::HEADERS, frame::END_HEADERS, 3, OK_HEAD);
    assert_fatal(&[
        ("a stream never opened", never, Reason::PROTOCOL_ERROR),
        (
            "a stream of the server",
            block(frame::DATA, 0, 2),
            Reason::PROTOCOL_ERROR,
        ),
        (
            "data of no stream",
            block(frame::DATA, 0, 0),
            Reason::PROTOCOL_ERROR,
        ),
        (
            "a continuation of nothing",
            block(frame::CONTINUATION, 0, 1),
            Reason::PROTOCOL_ERROR,
        ),
        ("an interrupted block", interrupted, Reason::PROTOCOL_ERROR),
        (
            "a push",
            bytes(frame::PUSH_PROMISE, frame::END_HEADERS, 1, &[0, 0, 0, 2]),
            Reason::PROTOCOL_ERROR,
        ),
        (
            "settings of a stream",
            block(frame::SETTINGS, 0, 1),
            Reason::PROTOCOL_ERROR,
        ),
    ]);
    let mut core = Core::new();
    assert!(
        core.receive(&bytes(frame::PING, 0, 0, &[0; 8])).is_err(),
        "settings have to come first"
    );
}

#[test]
fn frames_of_the_wrong_shape_lose_the_connection() {
    let padding = bytes(frame::DATA, frame::PADDED, 1, b"\x05a");
    assert_fatal(&[
        (
            "padding larger than the frame",
            padding,
            Reason::PROTOCOL_ERROR,
        ),
        (
            "a frame that is too large",
            bytes(frame::DATA, 0, 1, &[0; 16_385]),
            Reason::FRAME_SIZE_ERROR,
        ),
        (
            "settings of a wrong size",
            bytes(frame::SETTINGS, 0, 0, b"12345"),
            Reason::FRAME_SIZE_ERROR,
        ),
        (
            "a short ping",
            bytes(frame::PING, 0, 0, b"1234"),
            Reason::FRAME_SIZE_ERROR,
        ),
        (
            "a short goaway",
            bytes(frame::GOAWAY, 0, 0, b"1234"),
            Reason::PROTOCOL_ERROR,
        ),
        (
            "a short reset",
            bytes(frame::RST_STREAM, 0, 1, b"12"),
            Reason::FRAME_SIZE_ERROR,
        ),
    ]);
}

#[test]
fn values_out_of_bounds_lose_the_connection() {
    let window = (u32::MAX >> 1).to_be_bytes();
    let setting = |id, value| settings(&[(id, value)]);
    let endless = std::iter::once(bytes(frame::HEADERS, 0, 1, b"")).chain(std::iter::repeat_n(
        bytes(frame::CONTINUATION, 0, 1, b""),
        10_000,
    ));
    assert_fatal(&[
        (
            "broken HPACK",
            bytes(frame::HEADERS, frame::END_HEADERS, 1, &[0x80]),
            Reason::COMPRESSION_ERROR,
        ),
        (
            "push switched on",
            setting(frame::setting::ENABLE_PUSH, 1),
            Reason::PROTOCOL_ERROR,
        ),
        (
            "a tiny frame size",
            setting(frame::setting::MAX_FRAME_SIZE, 100),
            Reason::PROTOCOL_ERROR,
        ),
        (
            "a huge window",
            setting(frame::setting::INITIAL_WINDOW_SIZE, u32::MAX),
            Reason::FLOW_CONTROL_ERROR,
        ),
        (
            "a window that overflows",
            bytes(frame::WINDOW_UPDATE, 0, 0, &window),
            Reason::FLOW_CONTROL_ERROR,
        ),
        (
            "a block without an end",
            endless.flatten().collect(),
            Reason::ENHANCE_YOUR_CALM,
        ),
    ]);
}

#[test]
fn a_fatal_mistake_ends_all_calls_with_a_goaway() {
    let mut core = open(NO_SETTINGS);
    let id = start(&mut core, b"\0\0\0\0\0");
    flush(&mut core);
    let fatal: Fatal = core.receive(&bytes(frame::DATA, 0, 0, b"")).unwrap_err();
    core.fail(fatal);
    assert_eq!(kinds(&flush(&mut core)), [(frame::GOAWAY, 0, 0)]);
    assert!(matches!(
        outcome(&mut core, id),
        Err(Failure::Answer(CallError::Malformed(_)))
    ));
}
