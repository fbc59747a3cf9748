//! How much of all that is in flight one endpoint may have: consistent hashing with bounded loads
//! (<https://arxiv.org/abs/1608.01350>). One more than `factor` times its fair share sends a request on to the next endpoint of
//! the table, so that a key that everybody asks for does not crush its endpoint.
//!
//! A few requests are never bounded: with one request in flight the fair share of anybody is less than one, and a client that asks for
//! six things at once would find them on six endpoints.

/// So many requests in flight are never too many: what browsers have under way at once over HTTP/1.1.
pub const UNBOUND: usize = 6;

/// A bound on the load of endpoints with these weights together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    factor: f64,
    weights: f64,
}

impl Bound {
    /// `factor` is above 1; `weights` is the sum of all weights.
    #[must_use]
    pub fn new(factor: f64, weights: f64) -> Self {
        Self { factor, weights }
    }

    /// The most that an endpoint of this weight may have in flight, when one more joins the `total` in flight.
    #[must_use]
    pub fn most(&self, weight: f64, total: usize) -> usize {
        let fair = (total as f64 + 1.0) * weight / self.weights;
        ((self.factor * fair).ceil() as usize).max(UNBOUND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_by_weight_and_a_quarter_more() {
        let bound = Bound::new(1.25, 4.0);
        assert_eq!(bound.most(1.0, 99), 32, "a quarter of 100 is 25");
        assert_eq!(bound.most(2.0, 99), 63);
        assert_eq!(bound.most(1.0, 0), UNBOUND);
    }

    #[test]
    fn all_bounds_together_leave_room_for_one_more() {
        for count in 1..40 {
            for total in 0..400 {
                let bound = Bound::new(1.25, count as f64);
                let room = bound.most(1.0, total) * count;
                assert!(room > total, "{count} endpoints, {total} in flight");
            }
        }
    }
}
