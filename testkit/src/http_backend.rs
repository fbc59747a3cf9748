//! A backend that speaks HTTP/1.1 as badly as a test wants: it answers, hangs, resets, trickles, dies in the middle
//! of an answer, or talks nonsense, as its script says of each request; and it counts what it sees.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::accept::accept;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// 0 for the first request of all.
    pub number: usize,
    /// 0 for the first connection.
    pub connection: usize,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header fields in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, if it had a length.
    pub body: Vec<u8>,
}

/// What is done about a request, one step after the other. Then the next request is read.
#[derive(Debug, Clone)]
pub enum Step {
    /// Writes these bytes.
    Write(Vec<u8>),
    /// Writes these bytes one by one, with this pause before each.
    Trickle(Vec<u8>, Duration),
    /// Waits.
    Wait(Duration),
    /// Waits until the client leaves.
    Hang,
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
    /// Sends back what comes, until the client leaves.
    Echo,
}

/// What was seen so far, and what is seen now.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    abandoned: AtomicUsize,
    received: Mutex<Vec<Received>>,
}

/// A running backend; dropping it stops it and resets its connections.
#[derive(Debug)]
pub struct HttpBackend {
    address: SocketAddr,
    counts: Arc<Counts>,
    running: JoinHandle<()>,
}

type Script = dyn Fn(&Received) -> Vec<Step> + Send + Sync;

/// An answer with a body of this length.
#[must_use]
pub fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<Step> {
    let mut text = format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    vec![Step::Write(format!("{text}\r\n{body}").into_bytes())]
}

/// `200` with this body.
#[must_use]
pub fn ok(body: &str) -> Vec<Step> {
    answer(200, &[], body)
}

// === impl Received ===

impl Received {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

// === impl HttpBackend ===

impl HttpBackend {
    /// Starts a backend that does what the script says of each request.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(script: impl Fn(&Received) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_at(any, script).await
    }

    /// Starts it at this address: where another one was before, for instance.
    ///
    /// # Panics
    /// If the address is taken.
    pub async fn start_at(
        address: SocketAddr,
        script: impl Fn(&Received) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let counts = Arc::<Counts>::default();
        let (script, shared): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&counts));
        let serve = move |stream| connection(stream, Arc::clone(&script), Arc::clone(&shared));
        let (address, running) = accept(address, serve).await;
        Self {
            address,
            counts,
            running,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, in the order in which they came.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.counts
            .received
            .lock()
            .expect("no script panicked")
            .clone()
    }

    /// How many requests came so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.counts
            .received
            .lock()
            .expect("no script panicked")
            .len()
    }

    /// Requests that are under way, and the most there were at once.
    #[must_use]
    pub fn in_flight(&self) -> (usize, usize) {
        (
            self.counts.in_flight.load(SeqCst),
            self.counts.most_in_flight.load(SeqCst),
        )
    }

    /// Connections: how many came so far, how many are open, and the most there were at once.
    #[must_use]
    pub fn connections(&self) -> (usize, usize, usize) {
        let counts = &self.counts;
        let now = counts.open.load(SeqCst);
        (
            counts.connections.load(SeqCst),
            now,
            counts.most_open.load(SeqCst),
        )
    }

    /// Requests whose client left before the script was done with them.
    #[must_use]
    pub fn abandoned(&self) -> usize {
        self.counts.abandoned.load(SeqCst)
    }
}

impl Drop for HttpBackend {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// One more of something, until it is dropped.
struct OneMore<'a>(&'a AtomicUsize);

impl<'a> OneMore<'a> {
    fn of(now: &'a AtomicUsize, most: &AtomicUsize) -> Self {
        most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        Self(now)
    }
}

impl Drop for OneMore<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

async fn connection(stream: TcpStream, script: Arc<Script>, counts: Arc<Counts>) {
    let number = counts.connections.fetch_add(1, SeqCst);
    let _open = OneMore::of(&counts.open, &counts.most_open);
    let mut connection = Connection {
        stream,
        unread: Vec::new(),
    };
    while let Some(request) = connection.request(number).await {
        let _in_flight = OneMore::of(&counts.in_flight, &counts.most_in_flight);
        let request = note(&counts, request);
        match connection.perform(script(&request)).await {
            End::Next => {}
            End::Over => break,
            End::Abandoned => {
                counts.abandoned.fetch_add(1, SeqCst);
                break;
            }
        }
    }
}

fn note(counts: &Counts, mut request: Received) -> Received {
    let mut received = counts.received.lock().expect("no script panicked");
    request.number = received.len();
    received.push(request.clone());
    request
}

struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

enum End {
    Next,
    Over,
    Abandoned,
}

impl Connection {
    /// The next request; a chunked body is read up to its last chunk, marks included.
    async fn request(&mut self, connection: usize) -> Option<Received> {
        let end = loop {
            match self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.fill().await?,
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let body = self.body(&headers).await?;
        Some(Received {
            number: 0,
            connection,
            method,
            target,
            headers,
            body,
        })
    }

    async fn body(&mut self, headers: &[(String, String)]) -> Option<Vec<u8>> {
        let value = |name| {
            headers
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value)
        };
        if value("transfer-encoding").is_some() {
            while !self.unread.ends_with(b"0\r\n\r\n") {
                self.fill().await?;
            }
            return Some(std::mem::take(&mut self.unread));
        }
        let length = value("content-length")
            .map_or(Ok(0), |length| length.parse())
            .ok()?;
        while self.unread.len() < length {
            self.fill().await?;
        }
        Some(self.unread.drain(..length).collect())
    }

    async fn fill(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.unread).await {
            Ok(1..) => Some(()),
            _ => None,
        }
    }

    async fn perform(&mut self, steps: Vec<Step>) -> End {
        for step in steps {
            let goes_on = match step {
                Step::Write(bytes) => self.stream.write_all(&bytes).await.is_ok(),
                Step::Trickle(bytes, pause) => self.trickle(&bytes, pause).await,
                Step::Wait(time) => self.wait(tokio::time::sleep(time)).await,
                Step::Hang => self.wait(std::future::pending()).await,
                Step::Echo => self.echo().await,
                Step::Close => return End::Over,
                Step::Reset => {
                    // What is unread and unsent is thrown away, and the client told so.
                    self.stream
                        .set_zero_linger()
                        .expect("a socket that lingers not");
                    return End::Over;
                }
            };
            if !goes_on {
                return End::Abandoned;
            }
        }
        End::Next
    }

    async fn trickle(&mut self, bytes: &[u8], pause: Duration) -> bool {
        for byte in bytes {
            let goes_on = self.wait(tokio::time::sleep(pause)).await;
            if !goes_on || self.stream.write_all(&[*byte]).await.is_err() {
                return false;
            }
        }
        true
    }

    /// False if the client left first.
    async fn wait(&mut self, time: impl Future<Output = ()>) -> bool {
        let mut time = std::pin::pin!(time);
        loop {
            tokio::select! {
                () = &mut time => return true,
                more = self.fill() => if more.is_none() {
                    return false;
                },
            }
        }
    }

    async fn echo(&mut self) -> bool {
        loop {
            let bytes = std::mem::take(&mut self.unread);
            if self.stream.write_all(&bytes).await.is_err() || self.fill().await.is_none() {
                return false;
            }
        }
    }
}
