//! A share of a whole in parts per million: settings say `7%`, and 7 of 100 have to be exactly that.

const MILLION: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share(u64);

// === impl Share ===

impl Share {
    /// The nearest share to `ratio`; negative ones are none.
    pub(crate) fn of_ratio(ratio: f64) -> Self {
        Self((ratio.max(0.0) * MILLION as f64).round() as u64)
    }

    pub(crate) const fn from_parts_per_million(parts: u64) -> Self {
        Self(parts)
    }

    pub(crate) const fn parts_per_million(self) -> u64 {
        self.0
    }

    /// This share of `whole`, rounded down.
    pub(crate) const fn of(self, whole: u64) -> u64 {
        whole.saturating_mul(self.0) / MILLION
    }

    /// Whether `part` is this share of `whole`, or more.
    pub(crate) const fn is_reached_by(self, part: u64, whole: u64) -> bool {
        part.saturating_mul(MILLION) >= whole.saturating_mul(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_percentage_is_met_exactly() {
        for percent in 1..=100u8 {
            let share = Share::of_ratio(f64::from(percent) / 100.0);
            let percent = u64::from(percent);
            assert_eq!(share.of(100), percent);
            assert!(share.is_reached_by(percent, 100), "{percent} of 100");
            assert!(!share.is_reached_by(percent - 1, 100), "{percent} of 100");
        }
    }
}
