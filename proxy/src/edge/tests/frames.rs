//! HTTP/2 frame by frame: malformed requests, floods, and clients that do not read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tokio::time::Instant;

use super::support::{PATIENCE, TestEdge, short_limits, start, wait_for};
use crate::edge::EdgeLimits;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const PROTOCOL_ERROR: u32 = 1;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// The first thing that the edge says of stream 1, or of the connection.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Ok,
    BadRequest,
    OtherStatus,
    Reset(u32),
    GoAway(u32),
    Closed,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block of literals, never indexed nor compressed.
fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let string = |bytes: &mut Vec<u8>, text: &[u8]| {
        assert!(text.len() < 127, "one byte of length");
        bytes.push(text.len() as u8);
        bytes.extend_from_slice(text);
    };
    for (name, value) in fields {
        bytes.push(0);
        string(&mut bytes, name.as_bytes());
        string(&mut bytes, value);
    }
    bytes
}

fn begin(edge: &TestEdge, settings: &[u8]) -> TcpStream {
    let mut client = edge.connect();
    client
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    client.write_all(&frame(SETTINGS, 0, 0, settings)).unwrap();
    client
}

/// Reads frames until there is something to say of stream 1 or the connection.
fn hear(client: &mut TcpStream) -> Said {
    loop {
        let mut header = [0; 9];
        if client.read_exact(&mut header).is_err() {
            return Said::Closed;
        }
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let mut payload = vec![0; length];
        if client.read_exact(&mut payload).is_err() {
            return Said::Closed;
        }
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match header[3] {
            // Static table entries 8 and 12 are `:status` 200 and 400.
            HEADERS => {
                return match payload[0] {
                    0x88 => Said::Ok,
                    0x8c => Said::BadRequest,
                    _ => Said::OtherStatus,
                };
            }
            RST_STREAM => return Said::Reset(number(0)),
            GOAWAY if number(4) != 0 => return Said::GoAway(number(4)),
            _ => {}
        }
    }
}

const METHOD: (&str, &[u8]) = (":method", b"GET");
const SCHEME: (&str, &[u8]) = (":scheme", b"http");
const AUTHORITY: (&str, &[u8]) = (":authority", b"a");
const PATH: (&str, &[u8]) = (":path", b"/x");

fn ask(edge: &TestEdge, fields: &[(&str, &[u8])]) -> Said {
    let mut client = begin(edge, b"");
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields));
    client.write_all(&request).unwrap();
    hear(&mut client)
}

#[test]
fn malformed_requests_are_refused() {
    let edge = start(EdgeLimits::default());
    assert_eq!(ask(&edge, &[METHOD, SCHEME, AUTHORITY, PATH]), Said::Ok);
    assert_eq!(
        ask(&edge, &[METHOD, SCHEME, PATH, ("host", b"a")]),
        Said::Ok
    );
    let pseudo: [&[(&str, &[u8])]; 22] = [
        &[SCHEME, AUTHORITY, PATH],
        &[METHOD, AUTHORITY, PATH],
        &[METHOD, SCHEME, AUTHORITY],
        &[METHOD, SCHEME, PATH],
        &[METHOD, METHOD, SCHEME, AUTHORITY, PATH],
        &[METHOD, SCHEME, AUTHORITY, PATH, PATH],
        &[METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH],
        &[METHOD, SCHEME, AUTHORITY, ("a", b"b"), PATH],
        &[METHOD, SCHEME, AUTHORITY, PATH, (":status", b"200")],
        &[METHOD, SCHEME, AUTHORITY, PATH, (":other", b"x")],
        &[METHOD, SCHEME, AUTHORITY, (":path", b"")],
        &[METHOD, SCHEME, AUTHORITY, (":path", b"x")],
        &[METHOD, SCHEME, AUTHORITY, (":path", b"*")],
        &[METHOD, SCHEME, AUTHORITY, (":path", b"http://a/x")],
        &[METHOD, SCHEME, AUTHORITY, (":path", b"/a b")],
        &[METHOD, SCHEME, AUTHORITY, (":path", b"/a\r\nb: c")],
        &[METHOD, SCHEME, AUTHORITY, (":path", b"/\xc3\xa4")],
        &[METHOD, SCHEME, (":authority", b"user@a"), PATH],
        &[METHOD, SCHEME, (":authority", b"a:x"), PATH],
        &[METHOD, SCHEME, (":authority", b""), PATH],
        &[(":method", b"G T"), SCHEME, AUTHORITY, PATH],
        &[(":method", b"CONNECT"), SCHEME, AUTHORITY, PATH],
    ];
    for fields in pseudo {
        refused(&edge, fields);
    }
    let regular: [(&str, &[u8]); 14] = [
        ("Upper", b"x"),
        ("connection", b"close"),
        ("keep-alive", b"1"),
        ("proxy-connection", b"close"),
        ("transfer-encoding", b"chunked"),
        ("upgrade", b"websocket"),
        ("te", b"gzip"),
        ("host", b"b"),
        ("content-length", b"1"),
        ("content-length", b"+0"),
        ("a b", b"x"),
        ("a", b"x\r\ny"),
        ("a", b"x\0y"),
        ("a", b" x"),
    ];
    for field in regular {
        refused(&edge, &[METHOD, SCHEME, AUTHORITY, PATH, field]);
    }
    assert_eq!(
        ask(
            &edge,
            &[METHOD, SCHEME, AUTHORITY, PATH, ("te", b"trailers")]
        ),
        Said::Ok
    );
}

fn refused(edge: &TestEdge, fields: &[(&str, &[u8])]) {
    let said = ask(edge, fields);
    let refusals = [
        Said::BadRequest,
        Said::Reset(PROTOCOL_ERROR),
        Said::GoAway(PROTOCOL_ERROR),
    ];
    assert!(refusals.contains(&said), "{fields:?}: {said:?}");
}

#[test]
fn a_body_unlike_its_length_resets_the_stream() {
    let edge = start(EdgeLimits::default());
    for (announced, sent) in [("3", "ab"), ("3", "abcd")] {
        let mut client = begin(&edge, b"");
        let post = [
            (":method", &b"POST"[..]),
            SCHEME,
            AUTHORITY,
            (":path", b"/echo"),
            ("content-length", announced.as_bytes()),
        ];
        client
            .write_all(&frame(HEADERS, END_HEADERS, 1, &block(&post)))
            .unwrap();
        client
            .write_all(&frame(DATA, END_STREAM, 1, sent.as_bytes()))
            .unwrap();
        assert_eq!(hear(&mut client), Said::Reset(PROTOCOL_ERROR));
    }
}

/// Sends a frame again and again, until the edge has had enough.
fn flood(edge: &TestEdge, piece: &[u8]) -> Said {
    let client = begin(edge, b"");
    let mut writer = client.try_clone().unwrap();
    let many = piece.repeat(500);
    let sender = std::thread::spawn(move || {
        let started = Instant::now();
        while writer.write_all(&many).is_ok() && started.elapsed() < PATIENCE {}
    });
    let mut client = client;
    let said = hear(&mut client);
    drop(client);
    sender.join().unwrap();
    said
}

#[test]
fn floods_end_the_connection() {
    let edge = start(EdgeLimits::default());
    let request = frame(
        HEADERS,
        END_HEADERS,
        1,
        &block(&[(":method", b"POST"), SCHEME, AUTHORITY, (":path", b"/echo")]),
    );
    let floods = [
        ("SETTINGS", frame(SETTINGS, 0, 0, b"")),
        ("PING", frame(PING, 0, 0, b"12345678")),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", frame(0x7f, 0, 0, b"")),
    ];
    for (name, piece) in floods {
        let said = flood(&edge, &piece);
        // A connection that is cut while its client is still sending may lose the GOAWAY.
        let cut = [Said::GoAway(ENHANCE_YOUR_CALM), Said::Closed];
        assert!(cut.contains(&said), "{name}: {said:?}");
    }
    let mut client = begin(&edge, b"");
    client.write_all(&request).unwrap();
    let empty = frame(DATA, 0, 1, b"").repeat(5_000);
    client.write_all(&empty).ok();
    let said = hear(&mut client);
    assert!(
        matches!(said, Said::GoAway(_) | Said::Closed),
        "empty DATA: {said:?}"
    );
    wait_for("the connections to end", || {
        edge.running.stats().open() == 0
    });
}

#[test]
fn a_header_list_has_an_end() {
    let edge = start(EdgeLimits::default());
    let mut client = begin(&edge, b"");
    let fields = block(&[METHOD, SCHEME, AUTHORITY, PATH]);
    client
        .write_all(&frame(HEADERS, END_STREAM, 1, &fields))
        .unwrap();
    let more = frame(CONTINUATION, 0, 1, &block(&[("a", &[b'x'; 100])]));
    let many = more.repeat(5_000);
    client.write_all(&many).ok();
    let said = hear(&mut client);
    assert!(
        matches!(said, Said::GoAway(_) | Said::Closed | Said::OtherStatus),
        "{said:?}"
    );
}

#[test]
fn resets_before_anything_is_accepted_end_the_connection() {
    let edge = start(EdgeLimits::default());
    let mut client = begin(&edge, b"");
    let mut bytes = Vec::new();
    let fields = block(&[METHOD, SCHEME, AUTHORITY, (":path", b"/never")]);
    for number in 0..2_000u32 {
        let stream = 2 * number + 1;
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields));
        bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    client.write_all(&bytes).ok();
    let said = hear(&mut client);
    assert!(
        matches!(said, Said::GoAway(ENHANCE_YOUR_CALM) | Said::Closed),
        "{said:?}"
    );
    wait_for("the connection to end", || edge.running.stats().open() == 0);
}

#[test]
fn an_answer_that_is_not_taken_is_given_up() {
    let edge = start(EdgeLimits {
        min_write_rate: u32::MAX,
        ..short_limits()
    });
    // SETTINGS_INITIAL_WINDOW_SIZE = 0
    let mut client = begin(&edge, &[0, 4, 0, 0, 0, 0]);
    let fields = block(&[METHOD, SCHEME, AUTHORITY, (":path", b"/big")]);
    client
        .write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields))
        .unwrap();
    assert_eq!(hear(&mut client), Said::Ok);
    assert_eq!(hear(&mut client), Said::Reset(CANCEL));
}

#[test]
fn a_header_block_that_dribbles_is_cut() {
    let limits = EdgeLimits {
        idle_timeout: PATIENCE,
        ..short_limits()
    };
    let edge = start(limits);
    let mut client = begin(&edge, b"");
    let fields = block(&[METHOD, SCHEME, AUTHORITY, PATH]);
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields);
    let started = Instant::now();
    let mut dribble = client.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for byte in &request[..request.len() - 1] {
            std::thread::sleep(Duration::from_millis(50));
            if dribble.write_all(&[*byte]).is_err() {
                break;
            }
        }
    });
    assert_eq!(hear(&mut client), Said::GoAway(ENHANCE_YOUR_CALM));
    assert!(
        started.elapsed() >= Duration::from_millis(280),
        "after {:?}",
        started.elapsed()
    );
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "after {:?}",
        started.elapsed()
    );
    writer.join().unwrap();
}
