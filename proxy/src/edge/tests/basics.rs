//! What every client does: ask, keep the connection, pipeline, send bodies.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use super::support::{TestService, close_write, read_answers, start, wait_for};
use crate::edge::EdgeLimits;
use crate::edge::begin;

#[test]
fn answers_and_keeps_the_connection() {
    let edge = start(EdgeLimits::default());
    let mut client = edge.connect();
    for _ in 0..3 {
        client
            .write_all(b"GET /hello?x=1 HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        assert_eq!(
            read_answers(&mut client, 1),
            [(200, "called /hello".to_owned())]
        );
    }
    client
        .write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        .unwrap();
    assert_eq!(read_answers(&mut client, 1), [(200, "hello".to_owned())]);
}

#[test]
fn answers_pipelined_requests_in_order() {
    let edge = start(EdgeLimits::default());
    let mut client = edge.connect();
    let mut requests = String::new();
    for number in 0..50 {
        requests += &format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n");
        requests += "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n";
        requests += "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
            .repeat(usize::from(number == 20))
            .as_str();
    }
    client.write_all(requests.as_bytes()).unwrap();
    let answers = read_answers(&mut client, 101);
    let mut expected = Vec::new();
    for number in 0..50 {
        expected.push((200, format!("called /{number}")));
        expected.push((200, "abcde".to_owned()));
        if number == 20 {
            expected.push((200, "slow".to_owned()));
        }
    }
    assert_eq!(answers, expected);
}

#[test]
fn bodies_may_come_byte_by_byte() {
    let edge = start(EdgeLimits::default());
    let mut client = edge.connect();
    let request = b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n00a\r\n0123456789\r\n1\r\n!\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    for byte in request {
        client.write_all(&[*byte]).unwrap();
    }
    let answers = read_answers(&mut client, 2);
    assert_eq!(
        answers,
        [
            (200, "0123456789!".to_owned()),
            (200, "called /next".to_owned())
        ]
    );
}

#[test]
fn a_call_is_dropped_when_the_client_goes_away() {
    let edge = start(EdgeLimits::default());
    let mut client = edge.connect();
    client
        .write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    wait_for("the call to run", || {
        edge.service.running.load(Ordering::SeqCst) == 1
    });
    close_write(&client);
    wait_for("the call to be dropped", || {
        edge.service.dropped.load(Ordering::SeqCst) == 1
    });
}

#[test]
fn bodies_may_go_piece_by_piece_and_the_connection_on() {
    let edge = start(EdgeLimits::default());
    let mut client = edge.connect();
    let chunked = "POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let counted = "POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz";
    client
        .write_all(format!("{chunked}3\r\nabc\r\n").as_bytes())
        .unwrap();
    let first = read_until(&mut client, "abc\r\n");
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    assert!(
        first.contains("\r\ntransfer-encoding: chunked\r\n"),
        "{first}"
    );
    assert!(!first.contains("content-length"), "{first}");
    assert!(first.ends_with("\r\n\r\n3\r\nabc\r\n"), "{first}");
    let rest = format!("2\r\nde\r\n0\r\n\r\n{counted}GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    client.write_all(rest.as_bytes()).unwrap();
    let rest = read_until(&mut client, "called /next");
    assert!(
        rest.starts_with("2\r\nde\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{rest}"
    );
    assert!(
        rest.contains("\r\n\r\n3\r\nxyz\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{rest}"
    );
}

#[test]
fn a_body_that_breaks_off_breaks_the_answer_off() {
    let edge = start(EdgeLimits::default());
    for rest in ["zz\r\n", ""] {
        let mut client = edge.connect();
        let chunked =
            "POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        client.write_all(chunked.as_bytes()).unwrap();
        read_until(&mut client, "abc\r\n");
        client.write_all(rest.as_bytes()).unwrap();
        close_write(&client);
        let mut end = String::new();
        client.read_to_string(&mut end).ok();
        assert_eq!(end, "", "no end of the answer's body");
    }
}

/// What comes until that has come.
fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        let mut byte = [0];
        let read = client.read(&mut byte).expect("an answer in time");
        assert_eq!(read, 1, "closed after {}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    String::from_utf8(seen).expect("text")
}

#[test]
fn names_come_in_lower_case_and_values_trimmed() {
    let edge = start(EdgeLimits::default());
    let mut client = edge.connect();
    client
        .write_all(b"GET /head?a=b?c HTTP/1.1\r\nHost: Example.com:80\r\nX-Some: \t a b \t\r\nEMPTY:\r\n\r\n")
        .unwrap();
    let seen = "/head Some(\"a=b?c\") Example.com\nhost=Example.com:80\nx-some=a b\nempty=\n";
    assert_eq!(read_answers(&mut client, 1), [(200, seen.to_owned())]);
}

/// The size of what an async function gives, without a call of it.
fn size_of_future<A, B, F>(_function: fn(A, B) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_connection_takes_little_room() {
    let size = size_of_future(begin::serve::<TestService>);
    assert!(size <= 2560, "the task of a connection takes {size} bytes");
}
