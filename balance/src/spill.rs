//! How much stays near: requests go to the endpoints of the nearest level, and in proportion to the next ones when it is short of usable
//! endpoints. It is the rule of Envoy's priority levels
//! (<https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority>): a level bears
//! `min(1, 1.4 × usable / known)` of the requests, by weight, as far as nearer levels have left any.

/// How much more than its usual part an endpoint is trusted to bear before requests leave its level.
pub const OVERPROVISIONED: f64 = 1.4;

/// The weights of a level's endpoints, together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Level {
    /// Of those that may be used.
    pub usable: f64,
    /// Of all.
    pub known: f64,
}

/// The share of the requests that each level gets, the nearest first. They add up to 1, unless nothing is usable anywhere.
#[must_use]
pub fn shares(levels: &[Level]) -> Vec<f64> {
    let bears = |level: &Level| match level.known > 0.0 {
        true => (OVERPROVISIONED * level.usable / level.known).min(1.0),
        false => 0.0,
    };
    let together: f64 = levels.iter().map(bears).sum::<f64>().min(1.0);
    let mut left = 1.0;
    let taken = levels.iter().map(|level| {
        // Where all levels together are short, each bears more.
        let share = if together > 0.0 {
            (bears(level) / together).min(left)
        } else {
            0.0
        };
        left -= share;
        share
    });
    taken.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(levels: &[(f64, f64)]) -> Vec<f64> {
        let level = |&(usable, known): &(f64, f64)| Level { usable, known };
        let shares = shares(&levels.iter().map(level).collect::<Vec<_>>());
        shares
            .iter()
            .map(|share| (share * 1000.0).round() / 1000.0)
            .collect()
    }

    #[test]
    fn requests_leave_a_level_in_proportion_to_what_it_lacks() {
        for (levels, expected) in [
            (&[(4.0, 4.0), (8.0, 8.0)][..], &[1.0, 0.0][..]),
            (&[(3.0, 4.0), (8.0, 8.0)], &[1.0, 0.0]),
            (&[(2.0, 4.0), (8.0, 8.0)], &[0.7, 0.3]),
            (&[(1.0, 4.0), (8.0, 8.0)], &[0.35, 0.65]),
            (&[(0.0, 4.0), (8.0, 8.0)], &[0.0, 1.0]),
            (&[(0.0, 0.0), (8.0, 8.0)], &[0.0, 1.0]),
            (&[(1.0, 2.0), (1.0, 4.0), (8.0, 8.0)], &[0.7, 0.3, 0.0]),
            (&[(1.0, 4.0), (1.0, 4.0), (8.0, 8.0)], &[0.35, 0.35, 0.3]),
            // Both short: 0.35 each is all that there is, so each bears half.
            (&[(1.0, 4.0), (2.0, 8.0)], &[0.5, 0.5]),
            (&[(0.0, 4.0), (1.0, 8.0)], &[0.0, 1.0]),
            (&[(0.0, 4.0), (0.0, 8.0)], &[0.0, 0.0]),
        ] {
            assert_eq!(of(levels), expected, "{levels:?}");
        }
    }
}
