//! The call of the script for a batch: its items in the order that gives the script least to do, and its words.
//!
//! Items of a shard stand together, and in it those of a counter, as they came: so a shard's events are one entry of its stream,
//! and many increments of one counter one command. No two items of a call have the same key: the second would have to be known
//! as a repeat while the first is being counted. Repeats get a call of their own, after it.

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::Arc;

use redis::{Cmd, RedisWrite as _};

use super::PREFIX;
use super::pipeline::Request;
use super::place::Place;
use super::script::{BYTES_PER_KEY, Kind, Room};
use crate::idempotency::{IdempotencyKey, Origin};
use crate::outbox::partition::{hash, of_hash, partition};

/// The longest run that its one byte can tell.
const LONGEST_RUN: usize = 255;

/// Requests that share a call.
pub(super) struct Group {
    pub(super) place: Arc<Place>,
    pub(super) kind: Kind,
    pub(super) requests: Vec<Request>,
    /// By how many shards they are in order; 0 if there is no outbox.
    shards: u32,
}

/// A request with its shard and the hash of its counter.
type Keyed = ((u32, u32), Request);

/// What the script is to know beside the items.
pub(super) struct Terms<'a> {
    /// The retention of keys in milliseconds.
    pub(super) retention: i64,
    pub(super) room: Room,
    /// Which history of data the server has.
    pub(super) server: &'a str,
}

impl Group {
    pub(super) fn new(place: Arc<Place>, kind: Kind) -> Self {
        Self {
            place,
            kind,
            requests: Vec::new(),
            shards: 0,
        }
    }

    /// Puts the requests in order: those of a shard, and in it those of a counter, beside each other.
    fn arrange(&mut self, shards: u32) {
        self.shards = shards;
        let keyed = self.requests.drain(..).map(|request| {
            let hash = hash(request.counter().as_bytes());
            ((of_hash(hash, shards), hash), request)
        });
        let mut keyed: Vec<_> = keyed.collect();
        let counters = |(_, a): &Keyed, (_, b): &Keyed| a.counter().cmp(b.counter());
        keyed.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| counters(a, b)));
        self.requests
            .extend(keyed.into_iter().map(|(_, request)| request));
    }

    /// Takes out those whose key an earlier one has.
    fn take_repeats(&mut self) -> Vec<Request> {
        let shares_counter = |pair: &[Request]| pair[0].counter() == pair[1].counter();
        if self.kind.is_none() || !self.requests.windows(2).any(shares_counter) {
            return Vec::new();
        }
        let mut seen = HashSet::with_capacity(self.requests.len());
        let mut repeated = Vec::with_capacity(self.requests.len());
        for request in &self.requests {
            repeated.push(!seen.insert((request.counter(), request.key())));
        }
        if !repeated.contains(&true) {
            return Vec::new();
        }
        let (mut first, mut repeats) = (Vec::new(), Vec::new());
        for (request, repeated) in self.requests.drain(..).zip(repeated) {
            if repeated { &mut repeats } else { &mut first }.push(request);
        }
        self.requests = first;
        repeats
    }

    /// The words of the call after the script's name, as increment.lua has them.
    pub(super) fn write(&self, call: &mut Cmd, terms: &Terms<'_>) {
        // Without keys, the place of some is named but not used; and only what is used is named: a user's rights need not
        // reach further.
        let keys = self.place.keys(self.kind.unwrap_or(Origin::Client));
        let outbox = if self.shards > 0 {
            self.place.outbox()
        } else {
            keys
        };
        let runs = Runs::of(self);
        call.arg(2 + runs.firsts.len()).arg(keys).arg(outbox);
        for first in &runs.firsts {
            write(call, &[PREFIX, self.requests[*first].counter()]);
        }
        call.arg(terms.retention)
            .arg(terms.room.keys)
            .arg(BYTES_PER_KEY);
        or_nothing(call, self.kind.map(|_| self.bytes()));
        call.arg(self.shards);
        or_nothing(call, terms.room.events);
        write(call, &[&format!("{:016x}", fastrand::u64(..))]);
        write(call, &[terms.server]);
        self.write_items(call, &runs);
    }

    fn write_items(&self, call: &mut Cmd, runs: &Runs) {
        let delta = |request: &Request| request.increment.delta;
        let first = self.requests.first().map(delta);
        let common = first.filter(|first| self.requests.iter().all(|other| delta(other) == *first));
        call.arg(self.requests.len());
        call.write_arg(&runs.lengths);
        or_nothing(call, common);
        call.arg(runs.of_shards.len());
        for (shard, count) in &runs.of_shards {
            call.arg(shard).arg(count);
        }
        if self.kind.is_some() {
            for request in &self.requests {
                write(call, &[request.key(), " ", request.counter()]);
            }
        }
        if common.is_none() {
            for request in &self.requests {
                call.arg(delta(request));
            }
        }
    }

    /// What the keys of all requests take if they are new.
    fn bytes(&self) -> u64 {
        let text = |request: &Request| request.key().len() + 1 + request.counter().len();
        let texts: usize = self.requests.iter().map(text).sum();
        (texts as u64).saturating_add(BYTES_PER_KEY * self.requests.len() as u64)
    }
}

impl Request {
    fn counter(&self) -> &str {
        self.increment.counter.key()
    }

    fn key(&self) -> &str {
        let key = self.increment.key.as_ref();
        key.map_or("", IdempotencyKey::text)
    }
}

/// Puts groups in order for so many shards. What repeats something of its group follows in one of its own.
pub(super) fn arrange(groups: &mut Vec<Group>, shards: u32) {
    let mut at = 0;
    while let Some(group) = groups.get_mut(at) {
        group.arrange(shards);
        let repeats = group.take_repeats();
        if !repeats.is_empty() {
            let mut more = Group::new(group.place.clone(), group.kind);
            more.requests = repeats;
            groups.push(more);
        }
        at += 1;
    }
}

/// How the items of a call stand together.
struct Runs {
    /// The first item of each run.
    firsts: Vec<usize>,
    /// A byte each; nothing if each is a single item.
    lengths: Vec<u8>,
    /// The shards in order, each with its number of runs.
    of_shards: Vec<(u32, u32)>,
}

impl Runs {
    fn of(group: &Group) -> Self {
        let items = &group.requests;
        let mut firsts = Vec::with_capacity(items.len());
        for at in 0..items.len() {
            let goes_on = firsts.last().is_some_and(|first| {
                at - first < LONGEST_RUN && items[*first].counter() == items[at].counter()
            });
            if !goes_on {
                firsts.push(at);
            }
        }
        // Runs are worth it only where they leave many commands out: single items are the script's shortest way.
        let mut lengths = Vec::new();
        if firsts.len() * 4 <= items.len() * 3 {
            let ends = firsts.iter().skip(1).copied().chain([items.len()]);
            // At most LONGEST_RUN.
            lengths.extend(
                firsts
                    .iter()
                    .zip(ends)
                    .map(|(first, end)| (end - first) as u8),
            );
        } else {
            firsts = (0..items.len()).collect();
        }
        let mut of_shards = Vec::<(u32, u32)>::new();
        for first in &firsts {
            let shard = partition(items[*first].counter().as_bytes(), group.shards);
            match of_shards.last_mut() {
                Some((last, count)) if *last == shard => *count += 1,
                _ => of_shards.push((shard, 1)),
            }
        }
        Self {
            firsts,
            lengths,
            of_shards,
        }
    }
}

/// One word, in pieces.
fn write(call: &mut Cmd, pieces: &[&str]) {
    let mut word = call.writer_for_next_arg();
    for piece in pieces {
        // It writes to memory.
        let _ = word.write_all(piece.as_bytes());
    }
}

fn or_nothing<T: redis::ToRedisArgs>(call: &mut Cmd, word: Option<T>) {
    match word {
        Some(word) => call.arg(word),
        None => call.arg(""),
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::sync::oneshot;

    use super::*;
    use crate::id::CounterId;
    use crate::store::Increment;

    fn request(counter: &str, key: &str) -> Request {
        let counter = CounterId::new(counter, "like").unwrap();
        let key = IdempotencyKey::new(key, Origin::Client).unwrap();
        Request {
            increment: Increment {
                counter,
                delta: 1,
                key: Some(key),
            },
            reply: oneshot::channel().0,
            moved: 0,
        }
    }

    fn arranged(items: &[(&str, &str)], shards: u32) -> Vec<Group> {
        let mut group = Group::new(Arc::new(Place::new("t")), Some(Origin::Client));
        let requests = items.iter().map(|(counter, key)| request(counter, key));
        group.requests = requests.collect();
        let mut groups = vec![group];
        arrange(&mut groups, shards);
        groups
    }

    fn items(group: &Group) -> Vec<(String, String)> {
        let item = |request: &Request| {
            let name = request.increment.counter.resource_id();
            (name.to_owned(), request.key().to_owned())
        };
        group.requests.iter().map(item).collect()
    }

    #[test]
    fn a_repeat_is_in_a_later_call_than_what_it_repeats() {
        let sent = [
            ("a", "1"),
            ("b", "1"),
            ("a", "2"),
            ("a", "1"),
            ("a", "1"),
            ("b", "2"),
            ("b", "1"),
        ];
        for shards in [0, 1, 4] {
            let groups = arranged(&sent, shards);
            let mut calls: Vec<_> = groups.iter().map(items).collect();
            for call in &mut calls {
                call.sort_unstable();
            }
            let expected = [
                vec![("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")],
                vec![("a", "1"), ("b", "1")],
                vec![("a", "1")],
            ];
            let expected = expected.map(|call| {
                let item = |(counter, key): (&str, &str)| (counter.to_owned(), key.to_owned());
                call.into_iter().map(item).collect::<Vec<_>>()
            });
            assert_eq!(calls, expected, "{shards} shards");
        }
    }

    #[test]
    fn items_of_a_counter_stay_as_they_came_and_beside_each_other() {
        let names: Vec<_> = (0..300).map(|n| format!("{n}")).collect();
        let counter = |n: usize| {
            if n.is_multiple_of(3) {
                "hot"
            } else {
                ["x", "y"][n % 2]
            }
        };
        let sent: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(n, name)| (counter(n), &**name))
            .collect();
        let groups = arranged(&sent, 4);
        let [group] = &groups[..] else {
            panic!("no repeats")
        };
        let runs = Runs::of(group);
        assert_eq!(runs.firsts.len(), 3, "one run a counter");
        assert_eq!(
            runs.lengths
                .iter()
                .map(|length| usize::from(*length))
                .sum::<usize>(),
            300
        );
        assert_eq!(
            runs.of_shards.iter().map(|(_, count)| count).sum::<u32>(),
            3
        );
        assert!(runs.of_shards.is_sorted());
        for run in group.requests.chunk_by(|a, b| a.counter() == b.counter()) {
            let came: Vec<usize> = run
                .iter()
                .map(|request| request.key().parse().unwrap())
                .collect();
            assert!(came.is_sorted(), "{came:?}");
        }
    }

    #[test]
    fn a_run_is_never_longer_than_its_byte_tells() {
        let names: Vec<_> = (0..600).map(|n| format!("{n}")).collect();
        let sent: Vec<_> = names.iter().map(|name| ("hot", &**name)).collect();
        let groups = arranged(&sent, 4);
        assert_eq!(Runs::of(&groups[0]).lengths, [255, 255, 90]);
        let few = arranged(
            &[("a", "1"), ("b", "1"), ("b", "2"), ("c", "1"), ("d", "1")],
            1,
        );
        let runs = Runs::of(&few[0]);
        assert_eq!(
            (runs.firsts.len(), runs.lengths.len()),
            (5, 0),
            "not worth it"
        );
    }
}
