//! A service that answers by path, and a client that speaks raw bytes.

use std::future::{pending, poll_fn};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use async_trait::async_trait;
use http::HeaderValue;
use pingora_core::apps::{HttpServerApp, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{HttpProxy, ProxyHttp, Session};
use tokio::sync::watch;

use crate::edge::{
    Alarm, Answer, Client, Edge, EdgeLimits, Head, Lane, ListenerOptions, Protocols, Refusal,
    Running, Service,
};

/// No test waits longer for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Answers by path: `/now` before the body, `/echo` with it, `/slow` after 200 ms, `/never` never.
#[derive(Default)]
pub(super) struct TestService {
    /// Where `/pass` and what is below it goes.
    proxy: Option<Arc<HttpProxy<Forward>>>,
    pub(super) running: AtomicUsize,
    pub(super) dropped: AtomicUsize,
}

/// Sends every request to one backend.
pub(super) struct Forward(SocketAddr);

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _context: &mut (),
    ) -> pingora_error::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

pub(super) struct Guard<'a>(&'a TestService, bool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn text(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    Answer::new(status, HeaderValue::from_static("text/plain"), body.into())
}

impl Service for TestService {
    type Call = String;

    fn route(&self, _worker: usize, head: &Head) -> Lane<String> {
        match head.path() {
            "/now" => Lane::Answer(text(404, "now")),
            "/stream" => Lane::Stream {
                call: String::new(),
            },
            path if path.starts_with("/pass") && self.proxy.is_some() => Lane::PassThrough {
                call: String::new(),
            },
            path => Lane::Unary {
                call: path.to_owned(),
                max_body: 1000,
            },
        }
    }

    async fn unary(&self, _worker: usize, call: String, head: &Head, body: &[u8]) -> Answer {
        self.running.fetch_add(1, Ordering::SeqCst);
        let mut guard = Guard(self, false);
        let answer = match call
            .strip_prefix("/pass")
            .filter(|rest| !rest.is_empty())
            .unwrap_or(&call)
        {
            "/echo" => text(200, body),
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                text(200, "slow")
            }
            "/never" => pending().await,
            "/empty" => Answer {
                status: 204,
                ..Answer::default()
            },
            "/big" => text(200, vec![b'x'; 3_000_000]),
            "/head" => {
                let mut seen = format!("{} {:?} {}\n", head.path(), head.query(), head.host());
                for (name, value) in head.headers() {
                    seen += &String::from_utf8_lossy(name);
                    seen += "=";
                    seen += &String::from_utf8_lossy(value);
                    seen += "\n";
                }
                text(200, seen)
            }
            _ => text(200, format!("called {call}")),
        };
        guard.1 = true;
        answer
    }

    /// Gives back what comes, in pieces as they come.
    async fn stream(
        &self,
        _worker: usize,
        _call: String,
        _head: &Head,
        client: &mut dyn Client,
    ) -> Option<Answer> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let mut guard = Guard(self, false);
        client.begin(text(200, Vec::new()));
        while let Some(piece) = poll_fn(|cx| client.poll_read(cx)).await.ok()? {
            client.write(&piece);
            poll_fn(|cx| client.poll_flush(cx)).await.ok()?;
        }
        client.end(None);
        guard.1 = true;
        None
    }

    async fn pass_through(
        &self,
        _worker: usize,
        _call: String,
        session: ServerSession,
        _alarm: Alarm,
        drain: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.proxy.as_ref()?.process_new_http(session, drain).await
    }

    fn refuse(&self, _worker: usize, _head: Option<&Head>, refusal: Refusal) -> Answer {
        text(refusal.status(), refusal.reason())
    }
}

/// An edge that runs, and drains when it is dropped.
pub(super) struct TestEdge {
    pub(super) address: SocketAddr,
    pub(super) service: Arc<TestService>,
    pub(super) drain: watch::Sender<bool>,
    pub(super) running: Running,
}

/// Limits with timeouts short enough to wait for.
pub(super) fn short_limits() -> EdgeLimits {
    EdgeLimits {
        header_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(600),
        write_timeout: Duration::from_millis(500),
        ..EdgeLimits::default()
    }
}

pub(super) fn start(limits: EdgeLimits) -> TestEdge {
    start_with(limits, 2, Protocols::default())
}

pub(super) fn start_with(limits: EdgeLimits, threads: usize, protocols: Protocols) -> TestEdge {
    start_service(TestService::default(), limits, threads, protocols)
}

/// An edge that passes what is below `/pass` through to `backend`.
pub(super) fn start_before(backend: SocketAddr, limits: EdgeLimits) -> TestEdge {
    let proxy = HttpProxy::new(Forward(backend), Arc::new(ServerConf::default()));
    let service = TestService {
        proxy: Some(Arc::new(proxy)),
        ..TestService::default()
    };
    start_service(service, limits, 2, Protocols::default())
}

fn start_service(
    service: TestService,
    limits: EdgeLimits,
    threads: usize,
    protocols: Protocols,
) -> TestEdge {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let edge = Edge::bind(&[ListenerOptions { address, protocols }]).unwrap();
    let address = edge.addresses()[0];
    let service = Arc::new(service);
    let (drain, watch) = watch::channel(false);
    let running = edge.start(service.clone(), threads, limits, watch).unwrap();
    TestEdge {
        address,
        service,
        drain,
        running,
    }
}

impl TestEdge {
    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends bytes on a connection of its own and reads until the edge closes it, or `quiet` has
    /// passed without a byte; says whether it was closed.
    pub(super) fn exchange(&self, bytes: &[u8], quiet: Duration) -> (String, bool) {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_until_quiet(&mut stream, quiet)
    }
}

pub(super) fn read_until_quiet(stream: &mut TcpStream, quiet: Duration) -> (String, bool) {
    stream.set_read_timeout(Some(quiet)).unwrap();
    let mut all = Vec::new();
    let mut piece = [0; 64 * 1024];
    let closed = loop {
        match stream.read(&mut piece) {
            Ok(0) => break true,
            Ok(count) => all.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break false,
            Err(_) => break true,
        }
    };
    (String::from_utf8_lossy(&all).into_owned(), closed)
}

/// Reads until `count` answers have come whole.
pub(super) fn read_answers(stream: &mut TcpStream, count: usize) -> Vec<(u16, String)> {
    let mut bytes = Vec::new();
    let mut answers = Vec::new();
    let mut piece = [0; 64 * 1024];
    while answers.len() < count {
        while let Some((answer, length)) = first_answer(&bytes) {
            bytes.drain(..length);
            answers.push(answer);
        }
        if answers.len() < count {
            let read = stream.read(&mut piece).expect("an answer in time");
            assert_ne!(read, 0, "closed after {} of {count} answers", answers.len());
            bytes.extend_from_slice(&piece[..read]);
        }
    }
    answers
}

fn first_answer(bytes: &[u8]) -> Option<((u16, String), usize)> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse::<usize>().unwrap());
    let body = bytes.get(end..end + length)?;
    Some((
        (status, String::from_utf8(body.to_vec()).unwrap()),
        end + length,
    ))
}

pub(super) fn close_write(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Polls until something is so.
pub(super) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
