//! Where the gateway itself is, so that it can prefer endpoints that are near.

use super::{Labels, Locality};

/// Where the gateway is, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The machine that it runs on.
    pub node: Option<Box<str>>,
    /// The part of the datacenter that it is in.
    pub zone: Option<Box<str>>,
}

impl Place {
    /// The same with what is not known of it taken from another.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            node: self.node.clone().or_else(|| other.node.clone()),
            zone: self.zone.clone().or_else(|| other.zone.clone()),
        }
    }

    /// How far an endpoint is, 0 being the nearest, as far as `locality` cares: same node, same zone, anywhere. Places that are not known are not the
    /// same.
    #[must_use]
    pub fn distance(&self, labels: &Labels, locality: Locality) -> u8 {
        let same = |a: &Option<Box<str>>, b: &Option<Box<str>>| a.is_some() && a == b;
        match locality {
            Locality::Node if same(&self.node, &labels.node) => 0,
            Locality::Node | Locality::Zone if same(&self.zone, &labels.zone) => 1,
            Locality::Node | Locality::Zone | Locality::Anywhere => 2,
        }
    }

    /// Whether it says everything that `locality` looks at.
    #[must_use]
    pub fn is_all_for(&self, locality: Locality) -> bool {
        match locality {
            Locality::Anywhere => true,
            Locality::Zone => self.zone.is_some(),
            Locality::Node => self.node.is_some() && self.zone.is_some(),
        }
    }

    /// Whether it says what `locality` needs.
    #[must_use]
    pub fn is_enough_for(&self, locality: Locality) -> bool {
        match locality {
            Locality::Anywhere => true,
            Locality::Zone => self.zone.is_some(),
            Locality::Node => self.node.is_some() || self.zone.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_node_is_nearer_than_the_same_zone() {
        let labels = |node: &str, zone: &str| Labels {
            node: Some(node.into()),
            zone: Some(zone.into()),
            ..Labels::default()
        };
        let own = Place {
            node: Some("n1".into()),
            zone: Some("a".into()),
        };
        for (endpoint, by_node, by_zone) in [
            (labels("n1", "a"), 0, 1),
            (labels("n2", "a"), 1, 1),
            (labels("n3", "b"), 2, 2),
            (Labels::default(), 2, 2),
        ] {
            assert_eq!(own.distance(&endpoint, Locality::Node), by_node);
            assert_eq!(own.distance(&endpoint, Locality::Zone), by_zone);
            assert_eq!(own.distance(&endpoint, Locality::Anywhere), 2);
            assert_eq!(Place::default().distance(&endpoint, Locality::Node), 2);
        }
    }
}
