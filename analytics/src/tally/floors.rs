//! What is known of counters that had to go because memory is bounded: none of them was larger than this.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi, 2005) in batches: not the smallest counter goes when another comes, but the
//! smaller ones all at once, and what comes later may have had as much as the largest of them. A floor counts only as long as
//! what it stands for is in the window, so estimates become exact again when it has left.

use super::row::WINDOWS;

/// The windows; of all time, whose counts are never in doubt; and the sums of all that is kept.
pub(super) const FRAMES: usize = WINDOWS + 2;
/// The frame of all that is kept.
pub(super) const EVER: usize = FRAMES - 1;
/// More are merged.
const MOST: usize = 64;

/// How large and how small what went may have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Floor {
    /// The unix minute when it went: counters that came since may be among them.
    pub(super) from: u32,
    /// The last unix minute in which anything of it was counted.
    pub(super) until: u32,
    pub(super) high: [i128; FRAMES],
    pub(super) low: [i128; FRAMES],
}

/// All floors of one type.
#[derive(Debug, Clone, Default)]
pub(super) struct Floors {
    pub(super) list: Vec<Floor>,
    /// The largest count that went.
    pub(super) count: Option<i64>,
}

/// By how much a sum may be too small, and too large.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) high: i128,
    pub(super) low: i128,
}

impl Floors {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn add(&mut self, floor: Floor, count: Option<i64>) {
        self.count = self.count.max(count);
        self.list.push(floor);
        if self.list.len() > MOST {
            let second = self.list.remove(1);
            if let Some(first) = self.list.first_mut() {
                first.until = second.until;
                for frame in 0..FRAMES {
                    first.high[frame] = first.high[frame].max(second.high[frame]);
                    first.low[frame] = first.low[frame].max(second.low[frame]);
                }
            }
        }
    }

    /// What a counter that is known since a minute may have had in a frame that begins at another.
    pub(super) fn doubt(&self, frame: usize, since: u32, begin: i64) -> Doubt {
        if since == 0 {
            return Doubt::default();
        }
        self.worst(frame, begin, |floor| floor.from <= since)
    }

    /// What a counter that is not known may have in a frame.
    pub(super) fn unknown(&self, frame: usize, begin: i64) -> Doubt {
        self.worst(frame, begin, |_| true)
    }

    fn worst(&self, frame: usize, begin: i64, concerns: impl Fn(&Floor) -> bool) -> Doubt {
        let counts = |floor: &&Floor| i64::from(floor.until) >= begin && concerns(floor);
        let floors = self.list.iter().filter(counts);
        floors.fold(Doubt::default(), |doubt, floor| Doubt {
            high: doubt.high.max(floor.high[frame]),
            low: doubt.low.max(floor.low[frame]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_concerns_who_came_later_until_it_has_left() {
        let mut floors = Floors::default();
        let floor = |minute, high| Floor {
            from: minute,
            until: minute,
            high: [high; FRAMES],
            low: [1; FRAMES],
        };
        floors.add(floor(100, 7), Some(50));
        floors.add(floor(200, 5), Some(40));
        let high = |since, begin| floors.doubt(0, since, begin).high;
        assert_eq!(
            (high(0, 0), high(99, 0), high(150, 0), high(250, 0)),
            (0, 0, 7, 7)
        );
        assert_eq!((high(250, 101), high(250, 201)), (5, 0));
        assert_eq!(floors.unknown(3, 150), Doubt { high: 5, low: 1 });
        assert_eq!(floors.count, Some(50));
        for minute in 300..400 {
            floors.add(floor(minute, 1), None);
        }
        assert!(floors.list.len() <= MOST);
        assert_eq!(
            floors.doubt(0, 110, 50).high,
            7,
            "merged floors say no less"
        );
    }
}
