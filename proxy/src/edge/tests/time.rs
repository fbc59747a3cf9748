//! Deadlines, limits and drain, over real sockets with short timeouts.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::support::{
    PATIENCE, read_answers, read_until_quiet, short_limits, start, start_with, wait_for,
};
use crate::edge::{EdgeLimits, Protocols};

#[test]
fn a_header_that_dribbles_is_cut_at_its_deadline() {
    let edge = start(short_limits());
    let mut client = edge.connect();
    let started = Instant::now();
    client.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n").unwrap();
    let mut dribble = client.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        while dribble.write_all(b"a: b\r\n").is_ok() && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let (answer, closed) = read_until_quiet(&mut client, PATIENCE);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(closed);
    assert!(
        started.elapsed() >= Duration::from_millis(280),
        "cut after {:?}",
        started.elapsed()
    );
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "cut after {:?}",
        started.elapsed()
    );
    drop(client);
    writer.join().unwrap();
}

#[test]
fn a_second_header_has_its_own_deadline() {
    let edge = start(short_limits());
    let mut client = edge.connect();
    client
        .write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    read_answers(&mut client, 1);
    std::thread::sleep(Duration::from_millis(400));
    client.write_all(b"GET /y HTTP/1.1\r\n").unwrap();
    let started = Instant::now();
    let (answer, closed) = read_until_quiet(&mut client, PATIENCE);
    assert!(answer.starts_with("HTTP/1.1 408 ") && closed, "{answer}");
    assert!(
        started.elapsed() >= Duration::from_millis(280),
        "cut after {:?}",
        started.elapsed()
    );
}

#[test]
fn a_body_that_does_not_come_is_answered_408() {
    let edge = start(short_limits());
    let request = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf";
    let (answer, closed) = edge.exchange(request, PATIENCE);
    assert!(answer.starts_with("HTTP/1.1 408 ") && closed, "{answer}");
}

#[test]
fn silent_connections_are_closed_without_a_word() {
    let edge = start(short_limits());
    let started = Instant::now();
    assert_eq!(edge.exchange(b"", PATIENCE), (String::new(), true));
    assert!(started.elapsed() >= Duration::from_millis(280));
    let mut kept = edge.connect();
    kept.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    read_answers(&mut kept, 1);
    let idle = Instant::now();
    assert_eq!(read_until_quiet(&mut kept, PATIENCE), (String::new(), true));
    assert!(
        idle.elapsed() >= Duration::from_millis(550),
        "closed after {:?}",
        idle.elapsed()
    );
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let edge = start(EdgeLimits {
        min_write_rate: u32::MAX,
        ..short_limits()
    });
    let mut client = edge.connect();
    let request = "GET /big HTTP/1.1\r\nHost: a\r\n\r\n".repeat(8);
    client.write_all(request.as_bytes()).unwrap();
    wait_for("the connection to be cut", || {
        edge.running.stats().open() == 0
    });
}

#[test]
fn one_connection_too_many_is_told_so() {
    let edge = start(EdgeLimits {
        connections: 2,
        ..EdgeLimits::default()
    });
    let kept: Vec<_> = (0..2).map(|_| edge.connect()).collect();
    wait_for("both connections", || edge.running.stats().open() == 2);
    let (answer, closed) = edge.exchange(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", PATIENCE);
    assert!(answer.starts_with("HTTP/1.1 503 ") && closed, "{answer}");
    assert_eq!(edge.running.stats().refused(), 1);
    drop(kept);
    wait_for("room", || edge.running.stats().open() == 0);
    let mut client = edge.connect();
    client
        .write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert_eq!(read_answers(&mut client, 1)[0].0, 200);
}

#[test]
fn connections_spread_evenly() {
    let edge = start_with(EdgeLimits::default(), 3, Protocols::default());
    let clients: Vec<_> = (0..30).map(|_| edge.connect()).collect();
    let stats = edge.running.stats();
    wait_for("all connections", || stats.open() == 30);
    let spread: Vec<_> = stats.open_by_worker().collect();
    assert!(
        spread.iter().all(|&open| (8..=12).contains(&open)),
        "{spread:?}"
    );
    drop(clients);
}

#[test]
fn a_drain_finishes_what_is_in_flight_and_closes_the_rest() {
    let edge = start(EdgeLimits::default());
    let mut idle = edge.connect();
    idle.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    read_answers(&mut idle, 1);
    let mut busy = edge.connect();
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    wait_for("the call to run", || {
        edge.service.running.load(Ordering::SeqCst) == 1
    });
    let started = Instant::now();
    edge.drain.send(true).unwrap();
    assert_eq!(read_until_quiet(&mut idle, PATIENCE), (String::new(), true));
    let (answer, closed) = read_until_quiet(&mut busy, PATIENCE);
    assert!(answer.starts_with("HTTP/1.1 200 ") && closed, "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(drained(edge.running), 0);
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "drained after {:?}",
        started.elapsed()
    );
    assert!(
        std::net::TcpStream::connect(edge.address).is_err(),
        "still listening"
    );
}

#[test]
fn a_drain_cuts_what_does_not_end() {
    let limits = EdgeLimits {
        drain_timeout: Duration::from_millis(100).into(),
        ..EdgeLimits::default()
    };
    let edge = start(limits);
    let mut client = edge.connect();
    client
        .write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    wait_for("the call to run", || {
        edge.service.running.load(Ordering::SeqCst) == 1
    });
    edge.drain.send(true).unwrap();
    assert_eq!(drained(edge.running), 1);
    assert_eq!(edge.service.dropped.load(Ordering::SeqCst), 1);
}

fn drained(running: crate::edge::Running) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let drained = async { tokio::time::timeout(PATIENCE, running.drained()).await };
    runtime.block_on(drained).expect("the drain to end")
}
