//! A key of Consul whose value is a serialized `FileDescriptorSet`, watched. A key that is deleted takes nothing away: what
//! was good stays in force, as requests go on coming.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use consul::{Client, Entry, KeyQuery, Seen, State, Watch};
use mesh_config::KvKey;
use tokio::time::sleep;

use super::teller::Teller;

/// How often is looked how Consul is doing, while it does not answer.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn watch(client: Client, key: &KvKey) -> Watch<KeyQuery> {
    let query = KeyQuery {
        key: key.as_str().to_owned(),
        datacenter: None,
    };
    Watch::new(client, query)
}

pub(super) async fn follow(mut watch: Watch<KeyQuery>, teller: Arc<Teller>) -> Infallible {
    let status = watch.status();
    loop {
        let next = watch.next();
        tokio::pin!(next);
        let seen: Seen<Option<Entry>> = loop {
            tokio::select! {
                seen = &mut next => break seen,
                () = sleep(LOOK) => {
                    if let State::Away(why) = status.get().state {
                        teller.failed(format!("Consul: {why}"));
                    }
                }
            }
        };
        match seen.value {
            None => teller.failed("there is no such key".to_owned()),
            Some(entry) if entry.value.is_empty() => teller.failed("its value is empty".to_owned()),
            Some(entry) => {
                let version = format!("ModifyIndex {}", entry.modified);
                teller.learnt(Arc::from(&entry.value[..]), version);
            }
        }
    }
}
