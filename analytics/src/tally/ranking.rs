//! Pages of rankings: from the leaders where they are enough, by looking at everybody where not.

use std::collections::HashMap;

use super::counters::{ALL_TIME, Counters, oldest, ranked, ranking_of};
use super::floors::{Doubt, EVER};
use super::leaders::{ahead, order};
use super::names::Key;
use crate::state::{Over, Period, Place, Resolution, Seconds, Series, SeriesQuery, Top, TopQuery};

impl Counters {
    /// A page of a ranking.
    pub(super) fn top(&self, query: &TopQuery, now: i64) -> Top {
        match query.over {
            Over::Period(period) => self.top_of_period(query, period, now),
            Over::Range(range) => self.top_of_range(query, range, now),
        }
    }

    fn top_of_period(&self, query: &TopQuery, period: Period, now: i64) -> Top {
        let ranking = ranking_of(period);
        let range = period.range(now);
        let begin = Resolution::Minute.bucket(range.start);
        let page = self.of_leaders(query, ranking, begin).unwrap_or_else(|| {
            let all = (0..)
                .zip(&self.rows)
                .filter_map(|(key, row)| Some((ranked(row, ranking)?, key)));
            self.best(query, all.map(|one| self.estimated(one, ranking, begin)))
        });
        self.page(query, page, ranking, begin, range)
    }

    /// The best of the leaders that nobody else can be ahead of, if they are enough for the page.
    fn of_leaders(&self, query: &TopQuery, ranking: usize, begin: i64) -> Option<Vec<(i128, Key)>> {
        let leaders = &self.leaders[ranking];
        let others = self.unknown(ranking, begin).high;
        let certain = |one: &(i128, Key)| {
            leaders.floor().is_none_or(|floor| {
                if others == 0 {
                    ahead(*one, floor, &self.names)
                } else {
                    one.0 > floor.0 + others
                }
            })
        };
        let value = |key: &Key| Some((ranked(&self.rows[*key as usize], ranking)?, *key));
        let members = leaders.members().iter().filter_map(value);
        let estimated = members.map(|one| self.estimated(one, ranking, begin));
        let page = self.best(query, estimated.filter(certain));
        (leaders.floor().is_none() || page.len() > query.limit).then_some(page)
    }

    fn top_of_range(&self, query: &TopQuery, wanted: Seconds, now: i64) -> Top {
        let (resolution, range) = covered(wanted, now);
        let index = Resolution::ALL
            .into_iter()
            .position(|one| one == resolution);
        let buckets = &self.buckets[index.unwrap_or(0)];
        let mut sums: HashMap<Key, i128> = HashMap::new();
        for (_, bucket) in
            buckets.between(resolution.bucket(range.start), resolution.bucket(range.end))
        {
            bucket
                .cells()
                .for_each(|(key, sum)| *sums.entry(key).or_default() += sum);
        }
        let frame = frame(range, now);
        let begin = Resolution::Minute.bucket(range.start);
        let all = sums.into_iter().map(|(key, sum)| (sum, key));
        let page = self.best(query, all.map(|one| self.estimated(one, frame, begin)));
        self.page(query, page, frame, begin, range)
    }

    /// The first so many and one more, in their order.
    fn best(&self, query: &TopQuery, all: impl Iterator<Item = (i128, Key)>) -> Vec<(i128, Key)> {
        let wanted = query.limit + 1;
        let mut best: Vec<(i128, Key)> = Vec::new();
        // Once there are enough, the last of them is what others have to be ahead of.
        let mut last = None;
        for one in all {
            if query
                .after
                .as_ref()
                .is_some_and(|after| !self.is_after(one, after))
                || last.is_some_and(|last| !ahead(one, last, &self.names))
            {
                continue;
            }
            best.push(one);
            if best.len() >= 2 * wanted {
                best.select_nth_unstable_by(wanted - 1, |a, b| order(*a, *b, &self.names));
                best.truncate(wanted);
                last = best.last().copied();
            }
        }
        best.sort_unstable_by(|a, b| order(*a, *b, &self.names));
        best.truncate(wanted);
        best
    }

    fn is_after(&self, one: (i128, Key), place: &Place) -> bool {
        one.0 < place.value || one.0 == place.value && self.names.name(one.1) > &*place.resource_id
    }

    fn page(
        &self,
        query: &TopQuery,
        mut page: Vec<(i128, Key)>,
        frame: usize,
        begin: i64,
        range: Seconds,
    ) -> Top {
        let more = page.len() > query.limit;
        page.truncate(query.limit);
        let first = query
            .after
            .as_ref()
            .map_or(1, |place| place.rank.saturating_add(1));
        let place = |(rank, (value, key)): (u32, (i128, Key))| {
            let doubt = self.doubt(key, frame, begin);
            Place {
                rank,
                value,
                error: doubt.high + doubt.low,
                resource_id: self.names.name(key).into(),
            }
        };
        let places: Vec<Place> = (first..).zip(page).map(place).collect();
        let others = self.unknown(frame, begin).high;
        let certain = places.iter().all(|place| place.error == 0)
            && (others == 0 && (frame != ALL_TIME || self.floors.count.is_none())
                || more && places.last().is_some_and(|last| last.value > others));
        Top {
            exact: self.floors.is_empty() || certain,
            places,
            more,
            range,
        }
    }

    /// A sum with what may be missing: never too small.
    fn estimated(&self, one: (i128, Key), frame: usize, begin: i64) -> (i128, Key) {
        (one.0 + self.doubt(one.1, frame, begin).high, one.1)
    }

    fn doubt(&self, key: Key, frame: usize, begin: i64) -> Doubt {
        // Events carry the count of all time, so it is never in doubt.
        if frame == ALL_TIME || self.floors.is_empty() {
            return Doubt::default();
        }
        let since = self.rows.get(key as usize).map_or(0, |row| row.since);
        self.floors.doubt(frame, since, begin)
    }

    /// How large a counter may be that is not known.
    fn unknown(&self, frame: usize, begin: i64) -> Doubt {
        if frame == ALL_TIME {
            let high = self.floors.count.map_or(0, i128::from);
            return Doubt { high, low: 0 };
        }
        self.floors.unknown(frame, begin)
    }

    /// One value for each bucket of the range; `None` for a counter that is not known.
    pub(super) fn series(&self, query: &SeriesQuery, now: i64) -> Option<Series> {
        let key = self.names.find(&query.resource_id)?;
        let index = Resolution::ALL
            .into_iter()
            .position(|one| one == query.resolution)?;
        let begin = Resolution::Minute.bucket(query.range.start);
        let doubt = self.doubt(key, frame(query.range, now), begin);
        Some(Series {
            values: self.buckets[index].series(key, query.range),
            exact: doubt == Doubt::default(),
        })
    }

    /// Whether a counter that is not known has had nothing since a second, for certain.
    pub(super) fn has_nothing(&self, range: Seconds, now: i64) -> bool {
        let begin = Resolution::Minute.bucket(range.start);
        self.floors.unknown(frame(range, now), begin) == Doubt::default()
    }
}

/// The shortest window that covers a range: by its floors doubts are told.
fn frame(range: Seconds, now: i64) -> usize {
    let covers = |period: &Period| period.range(now).start <= range.start;
    Period::ROLLING.iter().position(covers).unwrap_or(EVER)
}

/// The finest buckets that are kept for all of a range, and the whole ones around it; cut at the end of retention.
pub(super) fn covered(wanted: Seconds, now: i64) -> (Resolution, Seconds) {
    let kept =
        |resolution: &Resolution| resolution.bucket(wanted.start) >= oldest(*resolution, now);
    let resolution = Resolution::ALL
        .into_iter()
        .find(kept)
        .unwrap_or(Resolution::Day);
    let range = resolution.around(wanted);
    let start = range
        .start
        .max(oldest(resolution, now) * resolution.width());
    (
        resolution,
        Seconds {
            start,
            end: range.end.max(start),
        },
    )
}
