//! What entries compile to: routes in their order, the shares of each, and the targets that they share. Pure data.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::conditions::{Asked, Conditions};
use super::hashing::Balancing;
use super::options::Options;

/// All of it.
#[derive(Debug, PartialEq, Default)]
pub(crate) struct Plan {
    /// The first that takes a request counts; the last takes all.
    pub(super) routes: Vec<Route>,
    pub(crate) targets: Vec<Target>,
}

/// Some requests and where they go.
#[derive(Debug, PartialEq)]
pub(super) struct Route {
    pub(super) conditions: Conditions,
    /// At least one.
    pub(super) leaves: Vec<Leaf>,
}

/// A share of a route's requests.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leaf {
    /// In hundredths of a percent; at least 1.
    pub(super) weight: u32,
    /// An index of `targets`.
    pub(crate) target: usize,
    pub(crate) options: Arc<Options>,
}

/// Instances that take requests, and who takes their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// At least one; the first is preferred.
    pub(crate) places: Vec<Place>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) balancing: Balancing,
}

/// Instances of one service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) service: String,
    pub(crate) subset: Option<String>,
    /// What Consul is asked with, of the subset.
    pub(crate) filter: Option<String>,
    /// Instances that warn are not meant.
    pub(crate) only_passing: bool,
    pub(crate) datacenter: Option<String>,
}

impl Plan {
    /// The leaf that a request falls to.
    pub(super) fn choose(&self, asked: &Asked<'_>, point: u32) -> Option<&Leaf> {
        let takes = |route: &&Route| route.conditions.hold(asked);
        let route = self.routes.iter().find(takes)?;
        if let [only] = &*route.leaves {
            return Some(only);
        }
        let whole: u32 = route.leaves.iter().map(|leaf| leaf.weight).sum();
        // Scaled, not cut: every leaf gets its share to the last bit that there is.
        let mut at = (u64::from(point) * u64::from(whole)) >> u32::BITS;
        route.leaves.iter().find(|leaf| {
            let weight = u64::from(leaf.weight);
            let falls = at < weight;
            at = at.saturating_sub(weight);
            falls
        })
    }

    /// Whether it says nothing that the cluster by itself would not do for `service`.
    pub(crate) fn is_trivial(&self, service: &str) -> bool {
        let [route] = &*self.routes else {
            return false;
        };
        let [leaf] = &*route.leaves else {
            return false;
        };
        let target = self.targets.get(leaf.target);
        *leaf.options == Options::default() && target.is_some_and(|one| one.is_plain(service))
    }

    /// For people, a line for each share of each route.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for route in &self.routes {
            let whole: u32 = route.leaves.iter().map(|leaf| leaf.weight).sum();
            for leaf in &route.leaves {
                let share = f64::from(leaf.weight) * 100.0 / f64::from(whole.max(1));
                let target = self.targets.get(leaf.target);
                let to = target.map(ToString::to_string).unwrap_or_default();
                lines.push(format!(
                    "{} -> {share:.2}% {to}{}",
                    route.conditions, leaf.options
                ));
            }
        }
        lines
    }
}

impl Target {
    /// Whether it is what the cluster itself asks for.
    pub(crate) fn is_plain(&self, service: &str) -> bool {
        let [place] = &*self.places else {
            return false;
        };
        place.is_plain(service)
            && self.connect_timeout.is_none()
            && self.balancing == Balancing::default()
    }

    /// Its name within the cluster.
    pub(crate) fn label(&self) -> String {
        let first = self.places.first();
        first.map(ToString::to_string).unwrap_or_default()
    }
}

impl Place {
    fn is_plain(&self, service: &str) -> bool {
        self.service == service
            && self.subset.is_none()
            && self.datacenter.is_none()
            && !self.only_passing
    }
}

/// `counter.v2@dc2`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.service)?;
        if let Some(subset) = &self.subset {
            write!(f, ".{subset}")?;
        }
        match &self.datacenter {
            Some(datacenter) => write!(f, "@{datacenter}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, place) in self.places.iter().enumerate() {
            let before = if index == 0 { "" } else { ", then " };
            write!(f, "{before}{place}")?;
        }
        self.balancing.fmt(f)
    }
}
