//! A link between two parts: a port that forwards bytes, and can be cut or fall silent.
//!
//! Cut: connections are reset and new ones too. Silent: nothing arrives and nobody is told; what was sent arrives when it is over,
//! as after a network partition, unless an end has given up by then.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const PIECE: usize = 64 * 1024;

/// What a link does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Cut,
    Silent,
}

/// A port that leads to another one.
#[derive(Debug)]
pub(crate) struct Link {
    name: &'static str,
    address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
    state: watch::Sender<State>,
    /// Held by who harms it.
    pub(crate) harmed: tokio::sync::Mutex<()>,
}

impl Link {
    /// A port that leads nowhere yet.
    pub(crate) async fn new(name: &'static str) -> Arc<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let link = Arc::new(Self {
            name,
            address: listener
                .local_addr()
                .expect("a bound socket has an address"),
            target: Arc::default(),
            state: watch::Sender::new(State::Open),
            harmed: tokio::sync::Mutex::default(),
        });
        let (target, state) = (link.target.clone(), link.state.subscribe());
        tokio::spawn(async move {
            loop {
                // A port that takes no more connections takes them later.
                if let Ok((near, _)) = listener.accept().await {
                    let target = target.clone();
                    tokio::spawn(forward(near, target, state.clone()));
                }
            }
        });
        link
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it leads from now on.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        *self.target.lock().expect("nobody panics with this lock") = Some(target);
    }

    pub(crate) fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn forward(
    near: TcpStream,
    target: Arc<Mutex<Option<SocketAddr>>>,
    mut state: watch::Receiver<State>,
) {
    if passes(&mut state).await.is_none() {
        return reset(&near);
    }
    let target = *target.lock().expect("nobody panics with this lock");
    let far = match target {
        Some(target) => TcpStream::connect(target).await.ok(),
        None => None,
    };
    let Some(far) = far else {
        return reset(&near);
    };
    // A socket that is gone already is found to be by whoever reads it.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::join!(
        pump(near_in, far_out, state.clone()),
        pump(far_in, near_out, state)
    );
}

/// Passes bytes on in one direction until there are no more, or the link is cut.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut piece = vec![0; PIECE];
    loop {
        let read = tokio::select! {
            // What is said of the link counts for what is read after it.
            biased;
            changed = state.changed() => {
                if changed.is_err() || passes(&mut state).await.is_none() {
                    break;
                }
                continue;
            }
            read = from.read(&mut piece) => read,
        };
        let Ok(length @ 1..) = read else {
            let _ = to.shutdown().await;
            return;
        };
        if passes(&mut state).await.is_none() || to.write_all(&piece[..length]).await.is_err() {
            break;
        }
    }
    reset(from.as_ref());
    reset(to.as_ref());
}

/// Waits while the link is silent; `None` if it is cut.
async fn passes(state: &mut watch::Receiver<State>) -> Option<()> {
    let state = state.wait_for(|state| *state != State::Silent).await.ok()?;
    (*state == State::Open).then_some(())
}

/// The connection ends at once, and not in peace.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
