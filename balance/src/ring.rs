//! A hash ring in the way of ketama: every endpoint has points all around by its weight, and a key belongs to the next point. An endpoint that
//! comes or goes moves only the keys that become or were its own.
//!
//! Points depend on the endpoint alone, never on the number of the others: what an endpoint of average weight has is fixed, and the average
//! counts as the nearest power of two, so that it seldom changes. An index by the first bits makes finding a point as cheap among
//! a million as among three; what it says of a point is not kept again, so that the points of a thousand endpoints stay in a core's cache.

use crate::hash;

/// More points are not kept: beyond it, every endpoint has half as many, a quarter, …
const MOST: u64 = 1 << 21;

/// So many of the first bits of a hash are a point.
const POINT: u32 = 32;

/// The points of all endpoints, in order.
#[derive(Debug)]
pub struct Ring {
    /// The bits of a point that its sector does not say, then its owner.
    entries: Box<[u32]>,
    /// Where the entries of each sector begin, and where those of the last one end. Sectors are equal parts of the ring, with a few entries each.
    sectors: Box<[u32]>,
    /// How many of a point's bits say its sector.
    sector_bits: u32,
    /// How many bits of an entry are the owner; never more than say the sector, so that both fit.
    owner_bits: u32,
}

// === impl Ring ===

impl Ring {
    /// A ring of endpoints by the hashes of their names and their weights, on which one of average weight has `each` points.
    #[must_use]
    pub fn new(members: &[(u64, f64)], each: u32) -> Self {
        let per_weight = per_weight(members, f64::from(each.max(1)));
        let mut points: Vec<u64> = Vec::new();
        for (owner, (seed, weight)) in (0u64..).zip(members) {
            let count = (weight * per_weight).round().max(1.0) as u64;
            let point = |n| hash::nth(*seed, n) >> POINT << POINT;
            points.extend((0..count).map(|n| point(n) | owner));
        }
        points.sort_unstable();
        let owner_bits = members.len().next_power_of_two().ilog2();
        let sector_bits = (points.len().max(8).ilog2() - 2).max(owner_bits);
        let below = (1 << (POINT - sector_bits)) - 1;
        let entry = |point: &u64| ((point >> POINT) as u32 & below) << owner_bits | *point as u32;
        let mut sectors = Vec::with_capacity((1 << sector_bits) + 1);
        let mut at = 0;
        for sector in 0..1u64 << sector_bits {
            sectors.push(at as u32);
            let is_in = |point: &u64| point >> (u64::BITS - sector_bits) == sector;
            while points.get(at).is_some_and(is_in) {
                at += 1;
            }
        }
        sectors.push(at as u32);
        Self {
            entries: points.iter().map(entry).collect(),
            sectors: sectors.into(),
            sector_bits,
            owner_bits,
        }
    }

    /// The points that there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Which of the points comes next.
    pub(crate) fn start(&self, point: u64) -> usize {
        let sector = (point >> (u64::BITS - self.sector_bits)) as usize;
        let below = (point >> POINT) as u32 & ((1 << (POINT - self.sector_bits)) - 1);
        let (from, to) = (
            self.sectors[sector] as usize,
            self.sectors[sector + 1] as usize,
        );
        let before = |entry: &&u32| **entry >> self.owner_bits < below;
        let at = from + self.entries[from..to].iter().take_while(before).count();
        if at == self.entries.len() { 0 } else { at }
    }

    pub(crate) fn owner(&self, at: usize) -> usize {
        self.entries[at] as usize & ((1 << self.owner_bits) - 1)
    }
}

/// The points for a weight of one.
fn per_weight(members: &[(u64, f64)], each: f64) -> f64 {
    let total: f64 = members.iter().map(|(_, weight)| weight).sum();
    let average = (total / members.len().max(1) as f64).max(f64::MIN_POSITIVE);
    let mut per_weight = each / average.log2().round().exp2();
    while per_weight * total > MOST as f64 {
        per_weight /= 2.0;
    }
    per_weight
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The points and their owners as they were before they were packed.
    fn unpacked(ring: &Ring) -> Vec<(u64, usize)> {
        let sectors = ring.sectors.windows(2).enumerate();
        let all = sectors.flat_map(|(sector, ends)| {
            (ends[0] as usize..ends[1] as usize).map(move |at| {
                let below = u64::from(ring.entries[at] >> ring.owner_bits);
                let first = (sector as u64) << (POINT - ring.sector_bits);
                (first | below, ring.owner(at))
            })
        });
        all.collect()
    }

    fn members(count: u64) -> Vec<(u64, f64)> {
        (0..count).map(|n| (hash::nth(7, n), 1.0)).collect()
    }

    #[test]
    fn every_point_is_where_its_owner_has_it() {
        for (count, each) in [
            (1, 1),
            (1, 160),
            (2, 1),
            (5, 100),
            (1000, 1),
            (1024, 3),
            (1025, 160),
        ] {
            let members = members(count);
            let mut expected: Vec<(u64, usize)> = members
                .iter()
                .enumerate()
                .flat_map(|(owner, (seed, _))| {
                    (0..each).map(move |n| (hash::nth(*seed, n) >> POINT, owner))
                })
                .collect();
            expected.sort_unstable();
            let ring = Ring::new(&members, each as u32);
            assert_eq!(unpacked(&ring), expected, "{count} with {each} points each");
        }
    }

    #[test]
    fn a_key_belongs_to_the_next_point_and_the_last_to_the_first() {
        let ring = Ring::new(&members(5), 100);
        assert_eq!(ring.len(), 500);
        let points = unpacked(&ring);
        for n in 0..10_000 {
            let point = hash::nth(99, n);
            let next = points
                .iter()
                .position(|(known, _)| *known >= point >> POINT);
            assert_eq!(ring.start(point), next.unwrap_or(0));
        }
        assert_eq!(ring.start(u64::MAX), 0);
        assert_eq!(ring.start(0), 0);
    }

    #[test]
    fn a_point_is_found_at_once_among_very_many() {
        let ring = Ring::new(&members(1000), 512);
        let longest = ring.sectors.windows(2).map(|ends| ends[1] - ends[0]);
        assert!(longest.max() < Some(30), "a sector has a handful of points");
    }

    #[test]
    fn the_points_of_a_thousand_stay_in_the_cache_of_a_core() {
        let ring = Ring::new(&members(1000), 160);
        let bytes = size_of_val(&*ring.entries) + size_of_val(&*ring.sectors);
        assert!(bytes < 800 << 10, "{bytes} bytes");
    }

    #[test]
    fn huge_weights_do_not_make_a_huge_ring() {
        let members: Vec<_> = (0..4000).map(|n| (hash::nth(7, n), 65_535.0)).collect();
        assert!(Ring::new(&members, 512).len() as u64 <= MOST);
        assert_eq!(Ring::new(&[], 512).len(), 0);
    }
}
