//! A backend that speaks HTTP/2 frames by hand, for what no library would send: a GOAWAY that does not cover
//! a stream, a connection closed between two bytes, frames that make no sense. It takes the client's preface,
//! sends SETTINGS, acknowledges SETTINGS and PING, and leaves everything else to the script.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A frame that the client sent.
#[derive(Debug, Clone)]
pub struct Frame {
    /// 0 for the first connection.
    pub connection: usize,
    /// DATA is 0, HEADERS 1, RST_STREAM 3, PING 6, GOAWAY 7.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream id.
    pub stream: u32,
}

/// What to do about a frame.
#[derive(Debug, Clone)]
pub enum Reaction {
    /// Nothing.
    Ignore,
    /// Write these bytes.
    Write(Vec<u8>),
    /// Write these bytes and close the connection.
    WriteAndClose(Vec<u8>),
    /// Stop reading and answering, keep the connection open.
    Freeze,
}

/// The running backend; dropping it stops it.
pub struct RawBackend {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    running: JoinHandle<()>,
}

/// The bytes of a frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A GOAWAY frame that covers streams up to `last`.
#[must_use]
pub fn goaway(last: u32, reason: u32) -> Vec<u8> {
    frame(
        7,
        0,
        0,
        &[last.to_be_bytes(), reason.to_be_bytes()].concat(),
    )
}

// === impl RawBackend ===

impl RawBackend {
    /// Starts a backend that reacts to frames other than SETTINGS and PING as the script says.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(script: impl Fn(&Frame) -> Reaction + Send + Sync + 'static) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(any).await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (script, counted) = (Arc::new(script), Arc::clone(&connections));
        let running = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = counted.fetch_add(1, SeqCst);
                let script = Arc::clone(&script);
                open.spawn(async move { serve(stream, number, &*script).await });
            }
        });
        Self {
            address,
            connections,
            running,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

impl Drop for RawBackend {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    script: &(dyn Fn(&Frame) -> Reaction + Send + Sync),
) -> Option<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.ok()?;
    stream.write_all(&frame(4, 0, 0, &[])).await.ok()?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).ok()?];
        stream.read_exact(&mut payload).await.ok()?;
        let seen = Frame {
            connection,
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        };
        let reaction = match (seen.kind, seen.flags & 1) {
            (4, 0) => Reaction::Write(frame(4, 1, 0, &[])),
            (6, 0) => Reaction::Write(frame(6, 1, 0, &payload)),
            (4 | 6, _) => Reaction::Ignore,
            _ => script(&seen),
        };
        match reaction {
            Reaction::Ignore => {}
            Reaction::Write(bytes) => stream.write_all(&bytes).await.ok()?,
            Reaction::WriteAndClose(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                return stream.shutdown().await.ok();
            }
            Reaction::Freeze => std::future::pending().await,
        }
    }
}
