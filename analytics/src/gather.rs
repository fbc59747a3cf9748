//! From the shares of all instances to one answer.
//!
//! Each counter's events are in one partition, so shares do not overlap and a ranking of all is made of the first places of
//! each. While a partition moves two instances may have it: the share that is further counts. A partition that nobody answers
//! for is named in the answer, which then is not exact; without any there is no answer.

use std::collections::BTreeMap;

use proto::analytics as pb;
use tonic::Status;

use crate::state::{Place, Seconds, Series, Share, Top, TopQuery};

/// The shares that have come in.
#[derive(Debug)]
pub(crate) struct Gathered<T> {
    shares: BTreeMap<u32, Share<T>>,
    /// How many there should be, if anybody knows.
    partitions: Option<u32>,
}

impl<T> Gathered<T> {
    /// This instance's own.
    pub(crate) fn new(own: Vec<Share<T>>, partitions: Option<u32>) -> Self {
        let mut gathered = Self {
            shares: BTreeMap::new(),
            partitions,
        };
        own.into_iter().for_each(|share| gathered.add(share));
        gathered
    }

    /// Those of a peer.
    pub(crate) fn add_all(&mut self, response: pb::SharesResponse, read: impl Fn(&pb::Share) -> T) {
        let told = (response.partitions > 0).then_some(response.partitions);
        self.partitions = self.partitions.max(told);
        for share in &response.shares {
            self.add(Share {
                partition: share.partition,
                position: share.position,
                as_of: share.as_of,
                answer: read(share),
            });
        }
    }

    fn add(&mut self, share: Share<T>) {
        let known = self.shares.get(&share.partition);
        if known.is_none_or(|known| known.position < share.position) {
            self.shares.insert(share.partition, share);
        }
    }

    /// The partitions that nobody answers for.
    pub(crate) fn missing(&self) -> Vec<u32> {
        let all = 0..self.partitions.unwrap_or(0);
        all.filter(|partition| !self.shares.contains_key(partition))
            .collect()
    }

    /// The unix second as of which all of it is true.
    pub(crate) fn as_of(&self) -> Option<i64> {
        self.shares.values().map(|share| share.as_of).min()
    }
}

impl Gathered<Top> {
    /// One page of all; `waits` if it should have shares and has none.
    pub(crate) fn page(self, query: &TopQuery, waits: bool) -> Result<Option<Top>, Status> {
        if self.shares.is_empty() {
            return nobody(waits).map(|()| None);
        }
        let whole = self.missing().is_empty();
        let mut page: Option<Top> = None;
        for share in self.shares.into_values() {
            let top = share.answer;
            let all = page.get_or_insert_with(|| Top {
                places: Vec::new(),
                more: false,
                range: top.range,
                exact: whole,
            });
            all.places.extend(top.places);
            all.more |= top.more;
            all.exact &= top.exact;
        }
        Ok(page.map(|mut page| {
            rank(&mut page, query);
            page
        }))
    }
}

/// Puts the places in order, as many as were asked for.
fn rank(page: &mut Top, query: &TopQuery) {
    page.places.sort_unstable_by(|a, b| {
        b.value
            .cmp(&a.value)
            .then_with(|| a.resource_id.cmp(&b.resource_id))
    });
    page.more |= page.places.len() > query.limit;
    page.places.truncate(query.limit);
    let first = query
        .after
        .as_ref()
        .map_or(1, |place| place.rank.saturating_add(1));
    for (place, rank) in page.places.iter_mut().zip(first..) {
        place.rank = rank;
    }
}

impl Gathered<Option<Series>> {
    /// The series of the partition that knows the counter; `None` if all say that there is none.
    pub(crate) fn series(self, waits: bool) -> Result<Option<(Series, i64)>, Status> {
        let missing = self.missing();
        let none = self.shares.is_empty();
        // Where some have forgotten counters, one that knows this one beats those that may have had it.
        let known = self
            .shares
            .into_values()
            .filter_map(|share| Some((share.answer?, share.as_of)))
            .max_by_key(|(series, _)| {
                (series.exact, series.values.iter().any(|value| *value != 0))
            });
        match known {
            Some((series, as_of)) => Ok(Some((series, as_of))),
            None if none => nobody(waits).map(|()| None),
            None if missing.is_empty() => Ok(None),
            None => Err(Status::unavailable(format!(
                "no instance answers for the partitions {missing:?}, in one of which the counter may be"
            ))),
        }
    }
}

fn nobody(waits: bool) -> Result<(), Status> {
    if waits {
        Err(Status::unavailable("no events have been read yet"))
    } else {
        Ok(())
    }
}

/// A ranking's share as it travels.
pub(crate) fn top_share(share: Share<Top>) -> pb::Share {
    let place = |place: Place| pb::SharePlace {
        resource_id: place.resource_id.to_string(),
        value: to_i64(place.value),
        error_bound: to_i64(place.error),
    };
    pb::Share {
        exact: share.answer.exact,
        more: share.answer.more,
        places: share.answer.places.into_iter().map(place).collect(),
        ..travelling(share.partition, share.position, share.as_of)
    }
}

/// A series' share as it travels.
pub(crate) fn series_share(share: Share<Option<Series>>) -> pb::Share {
    let (known, exact, values) = match share.answer {
        Some(series) => (true, series.exact, series.values),
        None => (false, true, Vec::new()),
    };
    pb::Share {
        known,
        exact,
        values: values.into_iter().map(to_i64).collect(),
        ..travelling(share.partition, share.position, share.as_of)
    }
}

fn travelling(partition: u32, position: u64, as_of: i64) -> pb::Share {
    pb::Share {
        partition,
        position,
        as_of,
        ..pb::Share::default()
    }
}

/// A ranking's share as it came; its range is that of the question.
pub(crate) fn read_top(share: &pb::Share, range: Seconds) -> Top {
    let place = |place: &pb::SharePlace| Place {
        rank: 0,
        value: i128::from(place.value),
        error: i128::from(place.error_bound),
        resource_id: place.resource_id.as_str().into(),
    };
    Top {
        places: share.places.iter().map(place).collect(),
        more: share.more,
        range,
        exact: share.exact,
    }
}

/// A series' share as it came.
pub(crate) fn read_series(share: &pb::Share, buckets: usize) -> Option<Series> {
    let mut values: Vec<i128> = share.values.iter().copied().map(i128::from).collect();
    // A peer of another version may mean other buckets: then it does not know.
    (share.known && values.len() == buckets).then(|| Series {
        values: std::mem::take(&mut values),
        exact: share.exact,
    })
}

/// A counter that crosses the whole range of int64 within a window moves by more than the contract's field can hold.
pub(crate) fn to_i64(value: i128) -> i64 {
    let nearest = if value < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(value).unwrap_or(nearest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::state::{Over, Period};

    fn share(partition: u32, position: u64, places: &[(&str, i128)]) -> Share<Top> {
        let place = |(name, value): &(&str, i128)| Place {
            rank: 0,
            value: *value,
            error: 0,
            resource_id: (*name).into(),
        };
        Share {
            partition,
            position,
            as_of: 100 + i64::from(partition),
            answer: Top {
                places: places.iter().map(place).collect(),
                more: false,
                range: Seconds { start: 0, end: 1 },
                exact: true,
            },
        }
    }

    fn query(limit: usize) -> TopQuery {
        TopQuery {
            counter_type: "like".to_owned(),
            over: Over::Period(Period::All),
            limit,
            after: None,
        }
    }

    fn names(top: &Top) -> Vec<&str> {
        top.places.iter().map(|place| &*place.resource_id).collect()
    }

    #[test]
    fn the_further_share_of_a_partition_counts() {
        let own = vec![
            share(0, 5, &[("old", 9)]),
            share(1, 7, &[("b", 2), ("a", 2)]),
        ];
        let mut gathered = Gathered::new(own, Some(2));
        let travelled = pb::SharesResponse {
            instance: 1,
            partitions: 2,
            shares: vec![
                top_share(share(0, 6, &[("new", 3)])),
                top_share(share(1, 6, &[("stale", 9)])),
            ],
        };
        gathered.add_all(travelled, |share| {
            read_top(share, Seconds { start: 0, end: 1 })
        });
        assert_eq!((gathered.missing(), gathered.as_of()), (vec![], Some(100)));
        let page = gathered.page(&query(2), true).unwrap().unwrap();
        assert_eq!(
            (names(&page), page.more, page.exact),
            (vec!["new", "a"], true, true)
        );
        assert_eq!(page.places[1].rank, 2);
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_at_all_is_no_answer() {
        let gathered = Gathered::new(vec![share(1, 7, &[("b", 2)])], Some(3));
        assert_eq!(gathered.missing(), [0, 2]);
        assert!(!gathered.page(&query(2), true).unwrap().unwrap().exact);
        let nothing = Gathered::<Top>::new(Vec::new(), Some(3));
        assert!(nothing.page(&query(2), true).is_err());
        let unfed = Gathered::<Top>::new(Vec::new(), None);
        assert_eq!(unfed.page(&query(2), false).unwrap(), None);
    }

    #[test]
    fn a_series_comes_from_who_knows_the_counter() {
        let of = |partition, answer| Share {
            partition,
            position: 1,
            as_of: 9,
            answer,
        };
        let series = Series {
            values: vec![1, -2],
            exact: true,
        };
        let known = Gathered::new(vec![of(0, None), of(1, Some(series.clone()))], Some(3));
        assert_eq!(known.series(true).unwrap(), Some((series, 9)));
        let none = Gathered::new(vec![of(0, None), of(1, None)], Some(2));
        assert_eq!(none.series(true).unwrap(), None);
        let unsure = Gathered::new(vec![of(0, None), of(1, None)], Some(3));
        assert!(unsure.series(true).is_err());
    }
}
