//! Switches by hand that several gateways share: one key of Consul's KV store, written with check-and-set and followed by blocking
//! queries. What it holds is kept in the data directory too, so that it holds after a start without Consul.
//!
//! Refused: to undo a switch because the key is gone or cannot be read. A hand undoes it.

use std::sync::Arc;
use std::time::Duration;

use consul::{Client, Entry, Expect, KeyQuery, Watch};
use mesh_config::KvKey;
use tokio::time::timeout;

use super::states::States;
use super::switch::{SwitchError, Switches, parse, text};

/// How often a change that somebody else was faster with is made again.
const TRIES: usize = 8;
/// How long a start waits for what the others have switched.
const PATIENCE: Duration = Duration::from_secs(2);

/// The key, and the Consul that has it.
#[derive(Debug, Clone)]
pub(crate) struct SharedKey {
    pub(crate) client: Client,
    pub(crate) key: KvKey,
}

impl SharedKey {
    /// Makes a change to what is there now. `change` may refuse it.
    pub(super) async fn change(
        &self,
        change: impl Fn(&mut Switches) -> Result<(), SwitchError> + Send,
        mine: &Switches,
    ) -> Result<Switches, SwitchError> {
        let failed = |why: String| SwitchError::Shared {
            key: self.key.to_string(),
            why,
        };
        for _ in 0..TRIES {
            let entry = self.client.get(self.key.as_str()).await;
            let entry = entry.map_err(|error| failed(error.to_string()))?;
            // What was switched before there was a key goes there with the first change.
            let mut switches = match &entry {
                None => mine.clone(),
                Some(entry) => read(entry).map_err(failed)?,
            };
            change(&mut switches)?;
            let expect = entry.map_or(Expect::Nothing, |entry| Expect::Modified(entry.modified));
            let put = self.client.put(self.key.as_str(), text(&switches), expect);
            if put.await.map_err(|error| failed(error.to_string()))? {
                return Ok(switches);
            }
        }
        Err(failed("others change it all the time".to_owned()))
    }

    /// A watch of the key.
    pub(crate) fn watch(&self) -> Watch<KeyQuery> {
        let query = KeyQuery {
            key: self.key.as_str().to_owned(),
            datacenter: None,
        };
        Watch::new(self.client.clone(), query)
    }
}

impl States {
    /// Shares switches from now on, and takes those of the others, if Consul tells them within a moment.
    pub(crate) async fn share(&self, shared: SharedKey) {
        let first = timeout(PATIENCE, shared.client.get(shared.key.as_str())).await;
        if let Ok(Ok(entry)) = first {
            self.hear(entry.as_ref(), &shared.key);
        }
        self.set_shared(shared);
    }

    /// Follows what the others switch.
    pub(crate) async fn follow(self: Arc<Self>, mut watch: Watch<KeyQuery>, key: KvKey) {
        loop {
            let seen = watch.next().await;
            self.hear(seen.value.as_ref(), &key);
        }
    }

    fn hear(&self, entry: Option<&Entry>, key: &KvKey) {
        match entry.map(read) {
            // Nobody has switched anything yet, or somebody has deleted the key: a hand undoes a switch.
            None => {}
            Some(Ok(switches)) => self.take(switches),
            Some(Err(why)) => {
                tracing::error!(%key, why, "the switches in Consul cannot be read: those that were known hold");
            }
        }
    }
}

fn read(entry: &Entry) -> Result<Switches, String> {
    let text = std::str::from_utf8(&entry.value).map_err(|error| error.to_string())?;
    parse(text)
}
