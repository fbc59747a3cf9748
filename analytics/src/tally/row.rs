//! What is kept of each counter beside its buckets: the count, and the sums of the rolling windows. One cache line.

/// The rolling windows, in the order of [`crate::state::Period::ROLLING`].
pub(super) const WINDOWS: usize = 4;

/// One counter. Sums are 80 bits wide: a counter may cross the whole range of int64 within a window, more than once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Row {
    /// The count as its last event told it.
    pub(super) value: i64,
    low: [u64; WINDOWS],
    high: [i16; WINDOWS],
    /// In how many buckets of the window the counter has a sum: at 0 it leaves the ranking.
    cells: [u16; WINDOWS],
    /// The unix minute since when all its events are known; 0: for ever.
    pub(super) since: u32,
    /// Changed since the last checkpoint.
    pub(super) changed: bool,
    /// In which rankings it is among the leaders, a bit each.
    leads: u8,
}

impl Row {
    /// A counter whose events are known since a minute; 0: for ever.
    pub(super) fn new(since: u32) -> Self {
        Self {
            since,
            ..Self::default()
        }
    }

    /// The sum of a window.
    pub(super) fn sum(&self, window: usize) -> i128 {
        wide(self.low[window], self.high[window])
    }

    /// Whether the counter has anything in a window.
    pub(super) fn is_in(&self, window: usize) -> bool {
        self.cells[window] > 0
    }

    /// Something enters a window: so much, in so many new cells.
    pub(super) fn enter(&mut self, window: usize, value: i128, cells: u16) {
        self.set(window, self.sum(window) + value);
        self.cells[window] = self.cells[window].saturating_add(cells);
    }

    /// A cell leaves a window.
    pub(super) fn leave(&mut self, window: usize, value: i128) {
        self.set(window, self.sum(window) - value);
        self.cells[window] = self.cells[window].saturating_sub(1);
    }

    /// Nothing is left in a window.
    pub(super) fn clear(&mut self, window: usize) {
        self.set(window, 0);
        self.cells[window] = 0;
    }

    pub(super) fn leads(&self, ranking: usize) -> bool {
        self.leads & (1 << ranking) != 0
    }

    pub(super) fn set_leads(&mut self, ranking: usize, leads: bool) {
        self.leads = self.leads & !(1 << ranking) | u8::from(leads) << ranking;
    }

    fn set(&mut self, window: usize, sum: i128) {
        (self.low[window], self.high[window]) = narrow(sum);
    }
}

/// 80 bits as a number.
pub(super) fn wide(low: u64, high: i16) -> i128 {
    i128::from(high) << 64 | i128::from(low)
}

/// A number in 80 bits.
pub(super) fn narrow(sum: i128) -> (u64, i16) {
    (sum as u64, (sum >> 64) as i16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_may_be_wider_than_a_count() {
        assert_eq!(size_of::<Row>(), 64);
        for sum in [
            0,
            -1,
            1,
            i128::from(i64::MIN) * 300,
            i128::from(u64::MAX) * 9,
        ] {
            let (low, high) = narrow(sum);
            assert_eq!(wide(low, high), sum);
        }
        let mut row = Row::default();
        row.enter(2, -5, 1);
        row.enter(2, i128::from(i64::MIN), 1);
        row.leave(2, -5);
        assert_eq!(
            (row.sum(2), row.is_in(2), row.is_in(1)),
            (i128::from(i64::MIN), true, false)
        );
        row.set_leads(3, true);
        row.set_leads(4, true);
        row.set_leads(3, false);
        assert_eq!((row.leads(3), row.leads(4)), (false, true));
    }
}
