//! When memory is full: the smaller counters of a type go, all that lead any ranking stay.

use super::counters::{Counters, RANKINGS, minute, ranked};
use super::floors::{EVER, FRAMES, Floor};
use super::names::Key;
use super::row::WINDOWS;
use crate::state::{Period, Resolution, Seconds};

impl Counters {
    /// Keeps the first so many of each ranking; everything else is told as a floor.
    pub(super) fn prune(&mut self, quota: usize, now: i64) {
        let stays = self.ahead_in_any(quota);
        let (floor, count) = self.floor_of(&stays, now);
        let mut kept = Self::new();
        kept.floors = std::mem::take(&mut self.floors);
        kept.floors.add(floor, count);
        kept.ends = self.ends;
        let mut moved = vec![None; self.rows.len()];
        for (key, row) in (0..).zip(&self.rows) {
            if stays[key as usize] {
                let (new, _) = kept.names.intern(self.names.name(key));
                moved[key as usize] = Some(new);
                let mut row = *row;
                (0..RANKINGS).for_each(|ranking| row.set_leads(ranking, false));
                row.changed = false;
                kept.rows.push(row);
            }
        }
        for (from, to) in self.buckets.iter().zip(&mut kept.buckets) {
            for (index, bucket) in from.all() {
                for (key, sum) in bucket.cells() {
                    if let Some(new) = moved[key as usize] {
                        to.restore(index, new, sum);
                    }
                }
            }
        }
        (0..RANKINGS).for_each(|ranking| kept.find_leaders(ranking));
        *self = kept;
    }

    fn ahead_in_any(&self, quota: usize) -> Vec<bool> {
        let mut stays = vec![false; self.rows.len()];
        for ranking in 0..RANKINGS {
            let value = |(key, row): (Key, _)| Some((ranked(row, ranking)?, key));
            let mut all: Vec<(i128, Key)> = (0..).zip(&self.rows).filter_map(value).collect();
            if all.len() > quota {
                all.select_nth_unstable_by(quota, |a, b| b.cmp(a));
                all.truncate(quota);
            }
            for (_, key) in all {
                stays[key as usize] = true;
            }
        }
        stays
    }

    /// The largest and smallest that any of those that go can have in each frame, however its buckets leave it.
    fn floor_of(&self, stays: &[bool], now: i64) -> (Floor, Option<i64>) {
        let at = minute(now);
        let mut floor = Floor {
            from: at,
            until: at,
            ..Floor::default()
        };
        for frame in (0..WINDOWS).chain([EVER]) {
            let (buckets, range) = frame_range(frame, now);
            let resolution = Resolution::ALL[buckets];
            let (start, end) = (resolution.bucket(range.start), resolution.bucket(range.end));
            let mut sums = vec![(0_i128, 0_i128); self.rows.len()];
            // From the future too: it will be in the window when the past has left.
            for (_, bucket) in self.buckets[buckets].between(start, end.saturating_add(2 * 1440)) {
                for (key, sum) in bucket.cells() {
                    let (above, below) = &mut sums[key as usize];
                    *above += sum.max(0);
                    *below += (-sum).max(0);
                }
            }
            for (key, (above, below)) in sums.into_iter().enumerate() {
                if !stays[key] {
                    let begin = Resolution::Minute.bucket(range.start);
                    let doubt = self.floors.doubt(frame, self.rows[key].since, begin);
                    floor.high[frame] = floor.high[frame].max(above + doubt.high);
                    floor.low[frame] = floor.low[frame].max(below + doubt.low);
                }
            }
        }
        let counts = self.rows.iter().zip(stays);
        let count = counts
            .filter(|(_, stays)| !**stays)
            .map(|(row, _)| row.value)
            .max();
        (floor, count)
    }
}

/// The buckets and the seconds of a frame.
fn frame_range(frame: usize, now: i64) -> (usize, Seconds) {
    let Some(period) = Period::ROLLING.get(frame) else {
        let range = Seconds {
            start: now - Resolution::Day.kept() - Resolution::Day.width(),
            end: now + Resolution::Day.width(),
        };
        return (2, range);
    };
    let buckets = usize::from(matches!(period, Period::Week | Period::Month));
    (buckets, period.range(now))
}

const _: () = assert!(FRAMES == WINDOWS + 2);
