//! The other instances of the service: each has some of the partitions, and is asked for its shares of every answer.
//!
//! Who they are is told by Consul or by the command line. One that does not answer in time is left out: what it has is then
//! missing in the answer, which says so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::analytics::peers_client::PeersClient;
use proto::analytics::{SharesRequest, SharesResponse};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::transport::{Channel, Endpoint};

/// How long a peer may take: it answers from memory.
const PATIENCE: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_millis(500);
const MAX_MESSAGE: usize = 16 << 20;

/// The other instances.
#[derive(Debug, Clone)]
pub struct Peers {
    addresses: watch::Receiver<Vec<String>>,
    channels: Arc<Mutex<HashMap<String, Channel>>>,
    /// Those that did not answer in time, and until when they are not asked: nobody should wait for them again and again.
    silent: Arc<Mutex<HashMap<String, Instant>>>,
    /// What tells this instance from others, drawn at its start.
    instance: u64,
}

impl Peers {
    /// These, as they come and go; this instance may be among them.
    pub fn new(addresses: watch::Receiver<Vec<String>>) -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        Self {
            addresses,
            channels: Arc::default(),
            silent: Arc::default(),
            instance: RandomState::new().hash_one(std::process::id()),
        }
    }

    /// Nobody.
    pub fn none() -> Self {
        Self::new(watch::Sender::new(Vec::new()).subscribe())
    }

    pub(crate) fn instance(&self) -> u64 {
        self.instance
    }

    /// Whether there can be any.
    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.borrow().is_empty()
    }

    /// Asks all of them at once; gives what those have that answer in time.
    pub(crate) async fn ask(&self, request: &SharesRequest) -> Vec<SharesResponse> {
        let addresses = self.addresses.borrow().clone();
        let mut asked = JoinSet::new();
        let now = Instant::now();
        self.silent.lock().retain(|_, until| *until > now);
        for address in addresses {
            if self.silent.lock().contains_key(&address) {
                continue;
            }
            let Some(channel) = self.channel(&address) else {
                continue;
            };
            let (request, silent) = (request.clone(), self.silent.clone());
            asked.spawn(async move {
                let mut client = PeersClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
                match timeout(PATIENCE, client.get_shares(request)).await {
                    Ok(Ok(shares)) => Some(shares.into_inner()),
                    Ok(Err(status)) => {
                        tracing::debug!(address, %status, "a peer does not answer");
                        None
                    }
                    Err(_) => {
                        tracing::debug!(address, "a peer does not answer in time");
                        silent.lock().insert(address, Instant::now() + SILENCE);
                        None
                    }
                }
            });
        }
        let answers = asked.join_all().await;
        let others = answers.into_iter().flatten();
        others
            .filter(|shares| shares.instance != self.instance)
            .collect()
    }

    fn channel(&self, address: &str) -> Option<Channel> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Some(channel.clone());
        }
        let known = self.addresses.borrow().clone();
        channels.retain(|address, _| known.contains(address));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
        let channel = endpoint
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .connect_lazy();
        channels.insert(address.to_owned(), channel.clone());
        Some(channel)
    }
}
