//! All counters of one type: names, counts, buckets, windows and who leads them.

use super::buckets::{Bucket, Buckets};
use super::floors::Floors;
use super::leaders::{Leaders, ahead};
use super::names::{Key, Names};
use super::row::{Row, WINDOWS};
use crate::event::Event;
use crate::state::{Period, Resolution};

/// The rankings: the windows, and of all time.
pub(super) const RANKINGS: usize = WINDOWS + 1;
/// The ranking of all time.
pub(super) const ALL_TIME: usize = WINDOWS;

/// The windows: length in buckets, and which buckets.
const WINDOW: [(i64, usize); WINDOWS] = [(60, 0), (1440, 0), (168, 1), (720, 1)];

/// The counters of one type.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) names: Names,
    pub(super) rows: Vec<Row>,
    pub(super) changed: Vec<Key>,
    pub(super) buckets: [Buckets; 3],
    /// The first bucket after each window.
    pub(super) ends: [i64; WINDOWS],
    pub(super) leaders: [Leaders; RANKINGS],
    pub(super) floors: Floors,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            names: Names::default(),
            rows: Vec::new(),
            changed: Vec::new(),
            buckets: Resolution::ALL.map(Buckets::new),
            ends: [0; WINDOWS],
            leaders: Default::default(),
            floors: Floors::default(),
        }
    }

    pub(super) fn cells(&self) -> usize {
        self.buckets.iter().map(Buckets::cells).sum()
    }

    /// Counts one event of the second `second`; true if it was too late for some buckets.
    pub(super) fn apply(&mut self, event: &Event<'_>, second: i64, now: i64) -> bool {
        let key = self.key(event.resource_id, now);
        let row = &mut self.rows[key as usize];
        row.value = event.new_value;
        if !std::mem::replace(&mut row.changed, true) {
            self.changed.push(key);
        }
        let mut late = false;
        for (index, resolution) in Resolution::ALL.into_iter().enumerate() {
            let bucket = resolution.bucket(second);
            if bucket < oldest(resolution, now) {
                late = true;
                continue;
            }
            let new = self.buckets[index].add(bucket, key, i128::from(event.delta));
            for window in windows_of(index) {
                if self.covers(window, bucket) {
                    let cells = u16::from(new);
                    self.rows[key as usize].enter(window, i128::from(event.delta), cells);
                }
            }
        }
        (0..RANKINGS).for_each(|ranking| self.consider(ranking, key));
        late
    }

    /// The number of a counter, which it makes known.
    pub(super) fn key(&mut self, resource: &str, now: i64) -> Key {
        let (key, new) = self.names.intern(resource);
        if new {
            let since = if self.floors.is_empty() {
                0
            } else {
                minute(now)
            };
            self.rows.push(Row::new(since));
        }
        key
    }

    /// Windows move on to `now`, and buckets past their retention go. In this order: what leaves a window must still be there.
    pub(super) fn advance(&mut self, now: i64) {
        for (index, resolution) in Resolution::ALL.into_iter().enumerate() {
            // Taken out, so that rows can change while its cells are read.
            let mut buckets = std::mem::replace(&mut self.buckets[index], Buckets::new(resolution));
            for window in windows_of(index) {
                self.roll(window, &buckets, resolution.bucket(now) + 1);
            }
            buckets.prune(oldest(resolution, now));
            self.buckets[index] = buckets;
        }
        for ranking in 0..RANKINGS {
            if self.leaders_are_few(ranking) {
                self.find_leaders(ranking);
            }
        }
    }

    /// A clock that goes back moves nothing.
    fn roll(&mut self, window: usize, buckets: &Buckets, end: i64) {
        if end <= self.ends[window] {
            return;
        }
        let (length, _) = WINDOW[window];
        let (old_start, old_end) = (self.ends[window] - length, self.ends[window]);
        let start = end - length;
        self.ends[window] = end;
        if start >= old_end {
            self.rows.iter_mut().for_each(|row| row.clear(window));
            for (_, bucket) in buckets.between(start, end) {
                for (key, sum) in bucket.cells() {
                    self.rows[key as usize].enter(window, sum, 1);
                }
            }
            self.find_leaders(window);
            return;
        }
        for (_, bucket) in buckets.between(old_start, start) {
            self.leave(window, bucket);
        }
        // Not empty if events came from the future.
        for (_, bucket) in buckets.between(old_end, end) {
            for (key, sum) in bucket.cells() {
                self.rows[key as usize].enter(window, sum, 1);
                self.consider(window, key);
            }
        }
    }

    fn leave(&mut self, window: usize, bucket: &Bucket) {
        for (key, sum) in bucket.cells() {
            self.rows[key as usize].leave(window, sum);
            // What was below zero makes a sum larger when it leaves.
            if sum < 0 {
                self.consider(window, key);
            }
        }
    }

    /// Looks whether a counter leads a ranking now.
    fn consider(&mut self, ranking: usize, key: Key) {
        let row = &self.rows[key as usize];
        if row.leads(ranking) {
            return;
        }
        let Some(value) = ranked(row, ranking) else {
            return;
        };
        if self.leaders[ranking].admits(key, value, &self.names) {
            self.rows[key as usize].set_leads(ranking, true);
            if self.leaders[ranking].too_many() {
                self.shrink(ranking);
            }
        }
    }

    fn shrink(&mut self, ranking: usize) {
        let mut there = Vec::with_capacity(self.leaders[ranking].members().len());
        for key in self.leaders[ranking].members() {
            let row = &mut self.rows[*key as usize];
            match ranked(row, ranking) {
                Some(value) => there.push((value, *key)),
                None => row.set_leads(ranking, false),
            }
        }
        for key in self.leaders[ranking].shrink(there, &self.names) {
            self.rows[key as usize].set_leads(ranking, false);
        }
    }

    /// Whether so many have fallen below the floor that pages could no longer be made from them.
    fn leaders_are_few(&self, ranking: usize) -> bool {
        let leaders = &self.leaders[ranking];
        let Some(floor) = leaders.floor() else {
            return false;
        };
        let certain = |key: &&Key| {
            let value = ranked(&self.rows[**key as usize], ranking);
            value.is_some_and(|value| ahead((value, **key), floor, &self.names))
        };
        leaders.members().iter().filter(certain).count() < super::leaders::WANTED / 4
    }

    /// Looks at everybody.
    pub(super) fn find_leaders(&mut self, ranking: usize) {
        for key in self.leaders[ranking].clear() {
            self.rows[key as usize].set_leads(ranking, false);
        }
        for (key, _) in (0..).zip(0..self.rows.len()) {
            self.consider(ranking, key);
        }
    }

    fn covers(&self, window: usize, bucket: i64) -> bool {
        (self.ends[window] - WINDOW[window].0..self.ends[window]).contains(&bucket)
    }
}

/// The value by which a counter stands in a ranking, if it does.
pub(super) fn ranked(row: &Row, ranking: usize) -> Option<i128> {
    if ranking == ALL_TIME {
        Some(i128::from(row.value))
    } else {
        row.is_in(ranking).then(|| row.sum(ranking))
    }
}

/// The number of a period's ranking.
pub(super) fn ranking_of(period: Period) -> usize {
    let rolling = Period::ROLLING.into_iter().position(|one| one == period);
    rolling.unwrap_or(ALL_TIME)
}

/// The oldest bucket that is kept at a time.
pub(super) const fn oldest(resolution: Resolution, now: i64) -> i64 {
    resolution.bucket(now - resolution.kept())
}

/// The unix minute of a second, from 1 on.
pub(super) fn minute(second: i64) -> u32 {
    u32::try_from(Resolution::Minute.bucket(second))
        .unwrap_or(0)
        .max(1)
}

fn windows_of(buckets: usize) -> impl Iterator<Item = usize> {
    (0..WINDOWS).filter(move |window| WINDOW[*window].1 == buckets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_what_the_periods_say() {
        for (window, period) in Period::ROLLING.into_iter().enumerate() {
            let (seconds, resolution) = period.window().unwrap_or((0, Resolution::Day));
            let (length, buckets) = WINDOW[window];
            assert_eq!(Resolution::ALL[buckets], resolution);
            assert_eq!(length * resolution.width(), seconds);
            assert_eq!(ranking_of(period), window);
        }
        assert_eq!(ranking_of(Period::All), ALL_TIME);
    }
}
