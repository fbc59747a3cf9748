//! What every client does: ask, keep the connection, pipeline, send bodies.

use std::io::Write;
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
