//! A table that says where a key belongs, and who comes next.

use crate::maglev::Maglev;
use crate::ring::Ring;

/// Owners by key. They are numbers: places in the list that the table was made of.
#[derive(Debug)]
pub enum Table {
    /// A ring of points.
    Ring(Ring),
    /// A table of entries.
    Maglev(Maglev),
}

// === impl Table ===

impl Table {
    /// The owner of a key, then those that come next, some of them more than once; each entry of the table comes once.
    pub fn walk(&self, point: u64) -> impl Iterator<Item = usize> {
        let len = self.len();
        let start = match self {
            _ if len == 0 => 0,
            Self::Ring(ring) => ring.start(point),
            Self::Maglev(maglev) => maglev.start(point),
        };
        let rest = (start..len).chain(0..start);
        rest.map(|at| match self {
            Self::Ring(ring) => ring.owner(at),
            Self::Maglev(maglev) => maglev.owner(at),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Ring(ring) => ring.len(),
            Self::Maglev(maglev) => maglev.len(),
        }
    }
}

#[cfg(test)]
mod tests;
