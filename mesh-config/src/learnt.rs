//! Descriptor sets that are learnt while the gateway runs: by reflection of a cluster, or from a key of Consul.
//!
//! Whoever learns a set offers it; a reload takes it, or refuses it and says why, and then goes on with the last good one. So
//! a backend that says nonsense changes nothing, and does not stand in the way of other changes either.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::model::ClusterName;
use crate::sources::KvKey;

/// Where a set is learnt from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A cluster, by gRPC server reflection.
    Reflection(ClusterName),
    /// A key of Consul's KV store.
    Kv(KvKey),
}

/// Serialized `FileDescriptorSet`s by where they are from.
pub type Sets = BTreeMap<Origin, Arc<[u8]>>;

/// What has been learnt, and what became of it. Clones share it.
#[derive(Clone)]
pub struct Learnt(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Counts what a reload made of offers.
    judged: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    good: Sets,
    offered: Sets,
    refused: BTreeMap<Origin, Vec<String>>,
}

/// A set that is not in force yet.
pub(crate) type Offer = (Origin, Arc<[u8]>);

impl Default for Learnt {
    fn default() -> Self {
        Self::with(Sets::new())
    }
}

impl Learnt {
    /// What was good when it was last in force.
    #[must_use]
    pub fn with(good: Sets) -> Self {
        let state = State {
            good,
            ..State::default()
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            judged: watch::Sender::new(0),
        }))
    }

    /// What is in force of it.
    #[must_use]
    pub fn good(&self) -> Sets {
        self.0.state.lock().good.clone()
    }

    /// Why the set that was offered last is not in force, if it was refused.
    #[must_use]
    pub fn refused(&self, origin: &Origin) -> Option<Vec<String>> {
        self.0.state.lock().refused.get(origin).cloned()
    }

    /// Offers a set to the next reload. False: it is in force, or has been offered before.
    #[must_use]
    pub fn offer(&self, origin: &Origin, set: Arc<[u8]>) -> bool {
        let mut state = self.0.state.lock();
        if state.offered.get(origin) == Some(&set) {
            return false;
        }
        state.refused.remove(origin);
        if state.good.get(origin) == Some(&set) {
            // What was offered in between, and refused, is taken back.
            return state.offered.remove(origin).is_some();
        }
        state.offered.insert(origin.clone(), set);
        true
    }

    /// Nobody asks there any more.
    pub fn forget(&self, origin: &Origin) {
        let mut state = self.0.state.lock();
        state.good.remove(origin);
        state.offered.remove(origin);
        state.refused.remove(origin);
    }

    /// Changes when a reload has judged offers.
    #[must_use]
    pub fn judged(&self) -> watch::Receiver<u64> {
        self.0.judged.subscribe()
    }

    /// What is good has turned out not to fit the configuration any more.
    pub(crate) fn forget_good(&self) {
        tracing::warn!(
            "the descriptors that were kept do not fit the configuration: they are learnt again"
        );
        self.0.state.lock().good.clear();
    }

    /// What differs from what is in force.
    pub(crate) fn offers(&self) -> Vec<Offer> {
        let state = self.0.state.lock();
        let offers = state.offered.iter();
        offers
            .map(|(origin, set)| (origin.clone(), Arc::clone(set)))
            .collect()
    }

    /// What is in force with some offers over it.
    pub(crate) fn over_good(&self, offers: &[Offer]) -> Sets {
        let mut sets = self.good();
        sets.extend(offers.iter().cloned());
        sets
    }

    /// They are in force.
    pub(crate) fn accept(&self, offers: &[Offer]) {
        let mut state = self.0.state.lock();
        for (origin, set) in offers {
            state.good.insert(origin.clone(), Arc::clone(set));
            state.refused.remove(origin);
            // Another one may have been offered meanwhile.
            if state.offered.get(origin) == Some(set) {
                state.offered.remove(origin);
            }
        }
        drop(state);
        self.0.judged.send_modify(|count| *count += 1);
    }

    /// It stays out of force; the next reload tries it again, as the configuration may be what changes.
    pub(crate) fn refuse(&self, (origin, set): &Offer, why: Vec<String>) {
        let mut state = self.0.state.lock();
        if state.offered.get(origin) == Some(set) {
            state.refused.insert(origin.clone(), why);
        }
        drop(state);
        self.0.judged.send_modify(|count| *count += 1);
    }
}

/// Without the sets.
impl fmt::Debug for Learnt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        let names = |sets: &Sets| sets.keys().map(ToString::to_string).collect::<Vec<_>>();
        f.debug_struct("Learnt")
            .field("good", &names(&state.good))
            .field("offered", &names(&state.offered))
            .finish_non_exhaustive()
    }
}

impl Origin {
    /// The cluster of this name; `None`: that is no name.
    #[must_use]
    pub fn reflection(cluster: &str) -> Option<Self> {
        ClusterName::parse(cluster).ok().map(Self::Reflection)
    }
}

/// For people: `reflection of orders`, `kv:descriptors/orders`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reflection(cluster) => write!(f, "reflection of {cluster}"),
            Self::Kv(key) => f.write_str(&key.source()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_is_refused_leaves_the_last_good_set_and_is_offered_until_it_is_taken_back() {
        let origin = Origin::Kv("descriptors/orders".parse().unwrap());
        let set = |byte: u8| -> Arc<[u8]> { Arc::from([byte].as_slice()) };
        let learnt = Learnt::default();
        assert!(learnt.offer(&origin, set(1)) && !learnt.offer(&origin, set(1)));
        learnt.accept(&learnt.offers());
        assert_eq!(learnt.good()[&origin], set(1));
        assert!(learnt.offers().is_empty() && !learnt.offer(&origin, set(1)));

        assert!(learnt.offer(&origin, set(2)));
        let offers = learnt.offers();
        learnt.refuse(&offers[0], vec!["no".to_owned()]);
        assert_eq!(learnt.refused(&origin), Some(vec!["no".to_owned()]));
        assert_eq!(learnt.good()[&origin], set(1));
        assert_eq!(learnt.offers(), offers, "another configuration may take it");
        assert!(learnt.offer(&origin, set(1)), "it is taken back");
        assert!(learnt.offers().is_empty() && learnt.refused(&origin).is_none());
    }
}
