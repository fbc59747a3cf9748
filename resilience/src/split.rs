//! Shares traffic out among weighted sides, so that what falls to a side stays with it.
//!
//! Weighted rendezvous hashing: each side draws a lot for the request's point and the heaviest lot wins, with
//! chances exact to the weights. A changed weight moves requests only between that side and the others, a side
//! that is left out hands its requests to the others by their weights, and nobody else's move
//! (<https://www.snia.org/sites/default/files/SDC15_presentations/dist_sys/Jason_Resch_New_Consistent_Hashings_Rev.pdf>).
//! Points are a key's hash where a split is sticky, else random. Refused: no side, and no weight at all.

/// Weighted sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    sides: Box<[Side]>,
}

/// What a side drew for a point.
#[derive(Debug, Clone, Copy)]
struct Lot {
    /// In (0, 1].
    uniform: f64,
    weight: f64,
}

#[derive(Debug, Clone, PartialEq)]
struct Side {
    /// Of its name: lots do not depend on the order of the list.
    seed: u64,
    weight: f64,
}

/// Why sides make no split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at least one side of a split must have a weight above zero")]
pub struct NothingToPick;

impl Split {
    /// A split among named sides; a weight of zero gets nothing.
    ///
    /// # Errors
    /// If no side has a weight.
    pub fn new<'a>(sides: impl IntoIterator<Item = (&'a str, u32)>) -> Result<Self, NothingToPick> {
        let sides: Box<[Side]> = sides
            .into_iter()
            .map(|(name, weight)| Side {
                seed: point(name.as_bytes()),
                weight: f64::from(weight),
            })
            .collect();
        if sides.iter().all(|side| side.weight == 0.0) {
            return Err(NothingToPick);
        }
        Ok(Self { sides })
    }

    /// The side of a request, by its place in the list.
    #[must_use]
    pub fn pick(&self, point: u64) -> usize {
        // `new` refuses splits without a weight.
        self.pick_among(point, |_| true).unwrap_or_default()
    }

    /// The side of a request if only some may have it; nothing if none of those has a weight.
    #[must_use]
    pub fn pick_among(&self, point: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        let mut best: Option<(usize, Lot)> = None;
        for (index, side) in self.sides.iter().enumerate() {
            if side.weight == 0.0 || !may(index) {
                continue;
            }
            let lot = side.lot(point);
            if best.is_none_or(|(_, best)| lot.comes_before(best)) {
                best = Some((index, lot));
            }
        }
        best.map(|(index, _)| index)
    }
}

impl Side {
    fn lot(&self, point: u64) -> Lot {
        // 53 bits, in (0, 1]: never the logarithm of nothing.
        let uniform = ((mixed(point ^ self.seed) >> 11) + 1) as f64 / (1u64 << 53) as f64;
        Lot {
            uniform,
            weight: self.weight,
        }
    }
}

impl Lot {
    /// Whose turn comes first: it comes after a time that is exponentially distributed with the weight as its rate, so
    /// that the chance to come first is the side's share. A heavier side that drew more needs no logarithm for that.
    fn comes_before(self, other: Self) -> bool {
        if self.weight == other.weight {
            return self.uniform > other.uniform;
        }
        -self.uniform.ln() / self.weight < -other.uniform.ln() / other.weight
    }
}

/// The point of a key: the same in every process and version. FNV-1a, finished so that similar keys lie apart.
#[must_use]
pub fn point(key: &[u8]) -> u64 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mixed(hash)
}

/// The finaliser of splitmix64: every bit of the result depends on every bit of the input.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 4] = ["counter", "counter-canary", "monolith", "x"];
    const POINTS: u64 = 20_000;

    fn split(weights: &[u32]) -> Split {
        Split::new(NAMES.into_iter().zip(weights.iter().copied())).unwrap()
    }

    fn points() -> impl Iterator<Item = u64> {
        (0..POINTS).map(|n| point(format!("user-{n}").as_bytes()))
    }

    #[test]
    fn a_split_needs_a_weight() {
        assert_eq!(Split::new([]), Err(NothingToPick));
        assert_eq!(Split::new([("a", 0), ("b", 0)]), Err(NothingToPick));
        assert_eq!(Split::new([("a", 0), ("b", 1)]).unwrap().pick(7), 1);
    }

    #[test]
    fn points_do_not_change_between_versions() {
        assert_eq!(point(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(point(b"user-1"), 0xc499_b5f8_a721_df58);
    }

    #[test]
    fn a_left_out_side_hands_over_its_own_and_nobody_elses() {
        let split = split(&[70, 10, 20]);
        for point in points() {
            let all = split.pick(point);
            let some = split.pick_among(point, |side| side != 1).unwrap();
            assert!(some != 1 && (all == 1 || all == some));
        }
        assert_eq!(split.pick_among(7, |_| false), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn shares_follow_weights(weights in prop::collection::vec(0u32..100, 1..=4)) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let split = split(&weights);
            let mut counts = vec![0u32; weights.len()];
            points().for_each(|point| counts[split.pick(point)] += 1);
            for (count, weight) in counts.iter().zip(&weights) {
                let share = f64::from(*weight) / f64::from(total);
                let off = (f64::from(*count) / POINTS as f64 - share).abs();
                prop_assert!(off < 0.018, "{counts:?} for {weights:?}"); // five standard deviations
                prop_assert!(*weight > 0 || *count == 0);
            }
        }

        #[test]
        fn a_changed_weight_moves_requests_only_to_or_from_its_side(
            weights in prop::collection::vec(1u32..100, 2..=4), changed in 0usize..2, to in 0u32..200,
        ) {
            let before = split(&weights);
            let mut other = weights.clone();
            other[changed] = to;
            let after = split(&other);
            for point in points().take(2000) {
                let (was, is) = (before.pick(point), after.pick(point));
                if was != is {
                    prop_assert_eq!(if to > weights[changed] { is } else { was }, changed);
                }
            }
        }

        #[test]
        fn the_order_of_the_list_does_not_matter(weights in prop::collection::vec(1u32..100, 4), point: u64) {
            let forwards = split(&weights);
            let backwards = Split::new(NAMES.into_iter().zip(weights.iter().copied()).rev()).unwrap();
            prop_assert_eq!(forwards.pick(point), 3 - backwards.pick(point));
        }
    }
}
