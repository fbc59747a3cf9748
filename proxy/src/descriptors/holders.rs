//! Which endpoint holds which schema, and which of them counts: the one that appeared last.
//!
//! During a roll-out endpoints with the old and the new schema stand side by side; the new one is taken when the first endpoint
//! shows it, and an old endpoint that is asked again, or a further one of the old kind, does not turn it back. When no endpoint
//! holds the newest any more (a roll-out that was undone), the one before counts again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// The longest wait after failures.
const MOST_WAIT: Duration = Duration::from_secs(5);
/// The wait after a first failure.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// So many endpoints are asked in one interval; those of a larger cluster take turns.
const AT_A_TIME: u32 = 8;

type Hash = [u8; 32];

/// What is known of the endpoints of a cluster, by address.
#[derive(Debug, Default)]
pub(super) struct Holders {
    endpoints: BTreeMap<String, Holder>,
    sets: BTreeMap<Hash, Held>,
    appeared: u64,
}

#[derive(Debug)]
struct Holder {
    holds: Option<Hash>,
    /// Differs when the endpoint has been away since.
    recoveries: u64,
    next: Instant,
    failures: u32,
}

#[derive(Debug)]
struct Held {
    set: Arc<[u8]>,
    appeared: u64,
}

impl Holders {
    /// Only these are left.
    pub(super) fn retain(&mut self, stays: impl Fn(&str) -> bool) {
        self.endpoints.retain(|address, _| stays(address));
        self.drop_unheld();
    }

    /// When an endpoint is to be asked: at once if it is new or was away.
    pub(super) fn due(&self, address: &str, recoveries: u64, now: Instant) -> Instant {
        let known = self.endpoints.get(address);
        known
            .filter(|known| known.recoveries == recoveries)
            .map_or(now, |known| known.next)
    }

    /// An endpoint has shown its schema.
    pub(super) fn showed(&mut self, address: &str, recoveries: u64, set: Arc<[u8]>, next: Instant) {
        let hash: Hash = Sha256::digest(&set).into();
        let holder = Holder {
            holds: Some(hash),
            recoveries,
            next,
            failures: 0,
        };
        self.endpoints.insert(address.to_owned(), holder);
        // What it held before may be nobody's now; then it is new when it comes again.
        self.drop_unheld();
        let appeared = self.appeared + 1;
        self.sets.entry(hash).or_insert_with(|| {
            self.appeared = appeared;
            Held { set, appeared }
        });
    }

    /// An endpoint could not be asked; what it held stays.
    pub(super) fn failed(&mut self, address: &str, recoveries: u64, now: Instant) {
        let holder = self.endpoints.entry(address.to_owned()).or_insert(Holder {
            holds: None,
            recoveries,
            next: now,
            failures: 0,
        });
        let wait = FIRST_WAIT
            .saturating_mul(1 << holder.failures.min(8))
            .min(MOST_WAIT);
        holder.recoveries = recoveries;
        holder.failures += 1;
        holder.next = now + wait.mul_f64(0.5 + fastrand::f64() / 2.0);
    }

    /// The schema that counts, and an endpoint that holds it.
    pub(super) fn newest(&self) -> Option<(Arc<[u8]>, &str)> {
        let (hash, held) = self.sets.iter().max_by_key(|(_, held)| held.appeared)?;
        let holder = self
            .endpoints
            .iter()
            .find(|(_, holder)| holder.holds == Some(*hash));
        Some((
            Arc::clone(&held.set),
            holder.map_or("", |(address, _)| address),
        ))
    }

    /// How long to wait between two questions to one endpoint.
    pub(super) fn pause(&self, interval: Duration) -> Duration {
        let rounds = u32::try_from(self.endpoints.len())
            .unwrap_or(u32::MAX)
            .div_ceil(AT_A_TIME);
        interval
            .saturating_mul(rounds.max(1))
            .mul_f64(0.9 + fastrand::f64() / 5.0)
    }

    fn drop_unheld(&mut self) {
        let endpoints = &self.endpoints;
        let held = |hash: &Hash| endpoints.values().any(|holder| holder.holds == Some(*hash));
        // With the last endpoint the last schema does not go.
        if endpoints.values().any(|holder| holder.holds.is_some()) {
            self.sets.retain(|hash, _| held(hash));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn newest(holders: &Holders) -> String {
        let (set, _) = holders.newest().unwrap();
        String::from_utf8(set.to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_schema_counts_until_nobody_holds_it() {
        let now = Instant::now();
        let mut holders = Holders::default();
        let show = |holders: &mut Holders, address: &str, set: &str| {
            holders.showed(address, 0, Arc::from(set.as_bytes()), now);
            newest(holders)
        };
        assert_eq!(show(&mut holders, "a", "old"), "old");
        assert_eq!(show(&mut holders, "b", "old"), "old");
        assert_eq!(show(&mut holders, "c", "new"), "new");
        assert_eq!(show(&mut holders, "a", "old"), "new", "it is asked again");
        assert_eq!(
            show(&mut holders, "d", "old"),
            "new",
            "a further one of the old kind"
        );
        holders.retain(|address| address != "c");
        assert_eq!(newest(&holders), "old", "the roll-out was undone");
        assert_eq!(show(&mut holders, "e", "new"), "new");
        holders.retain(|_| false);
        assert_eq!(newest(&holders), "new", "nobody is there");
        // One endpoint, forth and back.
        assert_eq!(show(&mut holders, "a", "old"), "old");
        assert_eq!(show(&mut holders, "a", "new"), "new");
        assert_eq!(show(&mut holders, "a", "old"), "old");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_away_is_asked_at_once_and_who_fails_less_and_less() {
        let now = Instant::now();
        let mut holders = Holders::default();
        assert_eq!(holders.due("a", 0, now), now);
        let later = now + Duration::from_secs(9);
        holders.showed("a", 0, Arc::from(&b"x"[..]), later);
        assert_eq!(holders.due("a", 0, now), later);
        assert_eq!(holders.due("a", 1, now), now, "it has been away");
        for _ in 0..40 {
            holders.failed("a", 1, now);
        }
        let wait = holders.due("a", 1, now) - now;
        assert!(wait >= MOST_WAIT / 2 && wait <= MOST_WAIT, "{wait:?}");
        assert!(holders.newest().is_some(), "what it held stays");
    }
}
