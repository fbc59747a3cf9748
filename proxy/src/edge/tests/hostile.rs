//! One table of raw bytes and what becomes of them, against a running edge.
#![expect(clippy::too_many_lines, reason = "tables")]

use std::io::Write;
use std::time::Duration;

use super::support::{PATIENCE, TestEdge, read_until_quiet, start, start_with};
use crate::edge::{EdgeLimits, Protocols};

/// The connection must be closed after the answer.
const CLOSED: bool = true;
/// It must be kept open.
const KEPT: bool = false;

/// Long enough to tell that a connection is kept, short enough to wait for often.
const QUIET: Duration = Duration::from_millis(60);

pub(super) fn limits() -> EdgeLimits {
    EdgeLimits {
        header_timeout: Duration::from_secs(5),
        header_bytes: 2000,
        header_count: 20,
        uri_bytes: 500,
        discard_bytes: 100,
        ..EdgeLimits::default()
    }
}

/// Sends each request on a connection of its own and compares the first status (0: no answer).
fn check(edge: &TestEdge, cases: &[(&str, u16, bool)]) {
    for (request, expected, closes) in cases {
        let quiet = if *closes { PATIENCE } else { QUIET };
        let (answer, closed) = edge.exchange(request.as_bytes(), quiet);
        let status = answer
            .get(9..12)
            .map_or(0, |status| status.parse().unwrap());
        let told = format!(
            "{:?}\nanswered {answer:?}",
            &request[..request.len().min(300)]
        );
        assert_eq!(status, *expected, "{told}");
        assert_eq!(closed, *closes, "closed, for {told}");
        if *closes && status != 0 {
            assert!(answer.contains("\r\nconnection: close\r\n"), "{told}");
            assert_eq!(answer.matches("\r\ndate: ").count(), 1, "{told}");
        }
    }
}

#[test]
fn request_lines() {
    let edge = start(limits());
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(500));
    let endless = format!("GET /{}", "x".repeat(600));
    check(
        &edge,
        &[
            ("GET /x HTTP/1.1\r\nHost: a\r\n\r\n", 200, KEPT),
            ("\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", 200, KEPT),
            ("\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("BREW /x HTTP/1.1\r\nHost: a\r\n\r\n", 200, KEPT),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200, KEPT),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", 200, KEPT),
            ("GET HTTPS://A:1/x HTTP/1.1\r\nHost: a:1\r\n\r\n", 200, KEPT),
            ("GET http://a/x HTTP/1.1\r\n\r\n", 400, CLOSED),
            ("GET http://a/x HTTP/1.1\r\nHost: b\r\n\r\n", 400, CLOSED),
            ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            (
                "GET http://u@a/x HTTP/1.1\r\nHost: u@a\r\n\r\n",
                400,
                CLOSED,
            ),
            ("GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET a/x HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET ?x HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET /x\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET /x\ty HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET  /x HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET /x  HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET /x HTTP/1.1 \r\nHost: a\r\n\r\n", 400, CLOSED),
            (" GET /x HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET\t/x\tHTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("G(T /x HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501, CLOSED),
            ("GET /x\r\n", 400, CLOSED),
            ("GET /x HTTP/0.9\r\nHost: a\r\n\r\n", 505, CLOSED),
            ("GET /x HTTP/1.2\r\nHost: a\r\n\r\n", 505, CLOSED),
            ("GET /x HTTP/2.0\r\nHost: a\r\n\r\n", 505, CLOSED),
            ("GET /x http/1.1\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET /x HTTP/11\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET /x HTTP/1.10\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET /x HTTP/1.1\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET /x HTTP/1.1\rHost: a\r\n\r\n", 400, CLOSED),
            ("GET /x HTTP/1.1\r\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 505, CLOSED),
            ("\x16\x03\x01\x02\x00\x01\x00\x01\n", 400, CLOSED),
            (&long, 414, CLOSED),
            (&endless, 414, CLOSED),
        ],
    );
}

#[test]
fn header_fields() {
    let edge = start(limits());
    let many = format!(
        "GET /x HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "a: b\r\n".repeat(20)
    );
    let just = format!(
        "GET /x HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "a: b\r\n".repeat(19)
    );
    let large = format!(
        "GET /x HTTP/1.1\r\nHost: a\r\na: {}\r\n\r\n",
        "b".repeat(2000)
    );
    let endless = format!("GET /x HTTP/1.1\r\nHost: a\r\na: {}", "b".repeat(2100));
    let with = |field: &str| format!("GET /x HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
    check(
        &edge,
        &[
            (&with("A: "), 200, KEPT),
            (&with("A:b"), 200, KEPT),
            (&with("A:\tb\u{e4}\tc "), 200, KEPT),
            (&with("A : b"), 400, CLOSED),
            (&with("A\t: b"), 400, CLOSED),
            (&with(" A: b"), 400, CLOSED),
            (&with("A: b\r\n c"), 400, CLOSED),
            (&with("A: b\r\n\tc"), 400, CLOSED),
            (&with(": b"), 400, CLOSED),
            (&with("A"), 400, CLOSED),
            (&with("A\u{e4}: b"), 400, CLOSED),
            (&with("A(: b"), 400, CLOSED),
            (&with("A: b\0c"), 400, CLOSED),
            (&with("A: b\rc"), 400, CLOSED),
            (&with("A: b\nC: d"), 400, CLOSED),
            (&with("A: b\x01"), 400, CLOSED),
            (&with("A: b\x7f"), 400, CLOSED),
            ("GET /x HTTP/1.1\r\n A: b\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET /x HTTP/1.1\r\nHost: a\n\r\n", 400, CLOSED),
            ("GET /x HTTP/1.1\r\nHost: a\r\n\n", 400, CLOSED),
            (&with("Expect: 200-maybe"), 417, CLOSED),
            (&just, 200, KEPT),
            (&many, 431, CLOSED),
            (&large, 431, CLOSED),
            (&endless, 431, CLOSED),
        ],
    );
}

#[test]
fn hosts() {
    let edge = start(limits());
    let with = |host: &str| format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n");
    check(
        &edge,
        &[
            ("GET /x HTTP/1.1\r\n\r\n", 400, CLOSED),
            ("GET /x HTTP/1.0\r\n\r\n", 200, CLOSED),
            ("GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, CLOSED),
            ("GET /x HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400, CLOSED),
            (&with("example.com:8080"), 200, KEPT),
            (&with("[::1]:80"), 200, KEPT),
            (&with("127.0.0.1"), 200, KEPT),
            (&with("a_b.example"), 200, KEPT),
            (&with(""), 400, CLOSED),
            (&with("a b"), 400, CLOSED),
            (&with("a, b"), 400, CLOSED),
            (&with("a,b"), 400, CLOSED),
            (&with("user@a"), 400, CLOSED),
            (&with("a/b"), 400, CLOSED),
            (&with("a?b"), 400, CLOSED),
            (&with("a#b"), 400, CLOSED),
            (&with("a\\b"), 400, CLOSED),
            (&with("http://a"), 400, CLOSED),
            (&with("a:"), 400, CLOSED),
            (&with("a:x"), 400, CLOSED),
            (&with("a:99999"), 400, CLOSED),
            (&with("a:80:80"), 400, CLOSED),
            (&with(":80"), 400, CLOSED),
            (&with("[::1"), 400, CLOSED),
            (&with("[a]"), 400, CLOSED),
            (&with("[::1]x"), 400, CLOSED),
            (&with("\u{e4}"), 400, CLOSED),
        ],
    );
}

#[test]
fn framing() {
    let edge = start(limits());
    let with = |fields: &str, body: &str| {
        format!("POST /echo HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}")
    };
    check(
        &edge,
        &[
            (&with("Content-Length: 2", "ab"), 200, KEPT),
            (&with("Content-Length: 0", ""), 200, KEPT),
            (&with("Content-Length: 002", "ab"), 200, KEPT),
            (
                &with("Content-Length: 2\r\nContent-Length: 2", "ab"),
                400,
                CLOSED,
            ),
            (
                &with("Content-Length: 2\r\nContent-Length: 3", "ab"),
                400,
                CLOSED,
            ),
            (&with("Content-Length: 2, 2", "ab"), 400, CLOSED),
            (&with("Content-Length: +2", "ab"), 400, CLOSED),
            (&with("Content-Length: -2", "ab"), 400, CLOSED),
            (&with("Content-Length: 0x2", "ab"), 400, CLOSED),
            (&with("Content-Length: 2.", "ab"), 400, CLOSED),
            (&with("Content-Length: 1 2", "ab"), 400, CLOSED),
            (&with("Content-Length:", "ab"), 400, CLOSED),
            (
                &with("Content-Length: 99999999999999999999", "ab"),
                400,
                CLOSED,
            ),
            (
                &with("Content-Length: 18446744073709551617", "ab"),
                400,
                CLOSED,
            ),
            (
                &with("Content-Length: 9999999999999999999", "ab"),
                413,
                CLOSED,
            ),
            (&with("Content-Length: 1001", ""), 413, CLOSED),
            (
                &with(
                    "Content-Length: 2\r\nTransfer-Encoding: chunked",
                    "0\r\n\r\n",
                ),
                400,
                CLOSED,
            ),
            (
                &with(
                    "Transfer-Encoding: chunked\r\nContent-Length: 2",
                    "0\r\n\r\n",
                ),
                400,
                CLOSED,
            ),
            (
                &with(
                    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                    "0\r\n\r\n",
                ),
                400,
                CLOSED,
            ),
            (&with("Transfer-Encoding: gzip", "0\r\n\r\n"), 501, CLOSED),
            (
                &with("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
                501,
                CLOSED,
            ),
            (
                &with("Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
                501,
                CLOSED,
            ),
            (
                &with("Transfer-Encoding: xchunked", "0\r\n\r\n"),
                501,
                CLOSED,
            ),
            (&with("Transfer-Encoding:", "0\r\n\r\n"), 501, CLOSED),
            (
                &with("Transfer-Encoding: \x0bchunked", "0\r\n\r\n"),
                400,
                CLOSED,
            ),
            (
                &with("Transfer-Encoding : chunked", "0\r\n\r\n"),
                400,
                CLOSED,
            ),
            (&with("Transfer-Encoding: CHUNKED", "0\r\n\r\n"), 200, KEPT),
            (
                "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                400,
                CLOSED,
            ),
            // A body that nobody wants is read if it is small.
            (
                "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
                404,
                KEPT,
            ),
            (
                "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nabcde",
                404,
                CLOSED,
            ),
            (
                "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
                404,
                CLOSED,
            ),
        ],
    );
}

#[test]
fn chunked_bodies() {
    let edge = start(limits());
    let body = |body: &str| {
        format!("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
    };
    let ext = |length: usize| body(&format!("2;{}\r\nab\r\n0\r\n\r\n", "x".repeat(length)));
    let trailer = |length: usize| body(&format!("0\r\nT: {}\r\n\r\n", "x".repeat(length)));
    let large = body(&format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(0x3e9)));
    check(
        &edge,
        &[
            (&body("2\r\nab\r\n0\r\n\r\n"), 200, KEPT),
            (
                &body("2;a=b;c=\"d\"\r\nab\r\n0;x\r\nTrailer: x\r\n\r\n"),
                200,
                KEPT,
            ),
            (&body("002\r\nab\r\n000\r\n\r\n"), 200, KEPT),
            (&body("2\nab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body("2\r\nab\n0\r\n\r\n"), 400, CLOSED),
            (&body("2\r\nabc\r\n0\r\n\r\n"), 400, CLOSED),
            (&body("2\r\nab0\r\n\r\n"), 400, CLOSED),
            (&body("2\rXab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body("2 \r\nab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body(" 2\r\nab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body("0x2\r\nab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body("-2\r\nab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body("+2\r\nab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body("\r\nab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body(";x\r\nab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body("g\r\nab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body("100000002\r\nab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body("ffffffffffffffffff\r\nab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body("2;\x01\r\nab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body("2;a\nb\r\nab\r\n0\r\n\r\n"), 400, CLOSED),
            (&body("0\r\nT: a\n\r\n"), 400, CLOSED),
            (&body("0\r\n T: a\r\n\r\n"), 400, CLOSED),
            (&body("0\r\n: a\r\n\r\n"), 400, CLOSED),
            (&body("ffffffff\r\nab"), 413, CLOSED),
            (&large, 413, CLOSED),
            (&ext(1000), 200, KEPT),
            (&ext(17_000), 431, CLOSED),
            (&trailer(1000), 200, KEPT),
            (&trailer(17_000), 431, CLOSED),
        ],
    );
}

#[test]
fn connections_are_kept_as_the_version_says() {
    let edge = start(limits());
    check(
        &edge,
        &[
            (
                "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                200,
                CLOSED,
            ),
            (
                "GET /x HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n",
                200,
                CLOSED,
            ),
            (
                "GET /x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
                200,
                CLOSED,
            ),
            (
                "GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
                200,
                KEPT,
            ),
            ("GET /x HTTP/1.0\r\nHost: a\r\n\r\n", 200, CLOSED),
            (
                "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
                200,
                KEPT,
            ),
        ],
    );
    let kept = edge
        .exchange(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", QUIET)
        .0;
    assert!(kept.contains("\r\nconnection: keep-alive\r\n"), "{kept}");
}

#[test]
fn answers_have_the_bodies_that_they_may_have() {
    let edge = start(limits());
    let ask = |request: &str| edge.exchange(request.as_bytes(), QUIET).0;
    let head = ask("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        head.contains("content-length: 9\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\ndate: ") && head.contains(" GMT\r\n"),
        "{head}"
    );
    let empty = ask("GET /empty HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        !empty.contains("content-length") && empty.ends_with("\r\n\r\n"),
        "{empty}"
    );
    assert!(empty.starts_with("HTTP/1.1 204 No Content\r\n"), "{empty}");
}

#[test]
fn a_client_that_waits_for_100_gets_it() {
    let edge = start(limits());
    let mut client = edge.connect();
    let head =
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    assert_eq!(
        read_until_quiet(&mut client, QUIET).0,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    client.write_all(b"ab").unwrap();
    assert!(
        read_until_quiet(&mut client, QUIET)
            .0
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    // With the body there, or none to come, there is nothing to say.
    client.write_all(format!("{head}ab").as_bytes()).unwrap();
    assert!(
        read_until_quiet(&mut client, QUIET)
            .0
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    let large =
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n";
    check(&edge, &[(large, 413, CLOSED)]);
}

#[test]
fn listeners_speak_only_what_they_are_told() {
    let http1 = start_with(
        limits(),
        1,
        Protocols {
            http1: true,
            h2c: false,
        },
    );
    check(
        &http1,
        &[
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, CLOSED),
            ("GET /x HTTP/1.1\r\nHost: a\r\n\r\n", 200, KEPT),
        ],
    );
    let h2c = start_with(
        limits(),
        1,
        Protocols {
            http1: false,
            h2c: true,
        },
    );
    check(&h2c, &[("GET /x HTTP/1.1\r\nHost: a\r\n\r\n", 0, CLOSED)]);
}
