//! Where the requests of a route go: one cluster or a split, a canary on trial, copies on the side.

use std::num::NonZeroU32;

use super::{ClusterName, Share, ValueMatch};

/// The clusters of a route. Of several at least one has a weight; none is there twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Destinations(pub(crate) Vec<Destination>);

/// One cluster of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its name.
    pub cluster: ClusterName,
    /// Its part of the requests, relative to the weights of the others; 0: none.
    pub weight: u32,
}

impl Destinations {
    /// One that takes everything.
    pub(crate) fn one(cluster: ClusterName) -> Self {
        Self(vec![Destination { cluster, weight: 1 }])
    }

    /// In file order.
    pub fn iter(&self) -> std::slice::Iter<'_, Destination> {
        self.0.iter()
    }

    /// The first in file order. `None`: the route is a redirect.
    #[must_use]
    pub fn first(&self) -> Option<&ClusterName> {
        self.0.first().map(|first| &first.cluster)
    }

    /// The only one, unless requests are split.
    #[must_use]
    pub fn only(&self) -> Option<&ClusterName> {
        match self.0.as_slice() {
            [one] => Some(&one.cluster),
            _ => None,
        }
    }

    /// All weights together. Not zero, unless the route is a redirect.
    #[must_use]
    pub fn total_weight(&self) -> u64 {
        self.0.iter().map(|side| u64::from(side.weight)).sum()
    }
}

impl<'a> IntoIterator for &'a Destinations {
    type Item = &'a Destination;
    type IntoIter = std::slice::Iter<'a, Destination>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What makes requests go to the same side of a split, or to the same endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// The value of a header line. The name is in lower case.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
    /// The value of a query parameter.
    Query(String),
    /// A variable of the path template, by its field path. Of transcoded routes only.
    Path(String),
    /// The address of the client.
    Address,
}

/// A cluster that is on trial: it is judged against the other destinations, and gets nothing more if it is worse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// One of the destinations, or one that gets `share` of the requests or those that `when` selects.
    pub cluster: ClusterName,
    /// Its part of the requests where the route has no weights.
    pub share: Option<Share>,
    /// By how much its share of errors may exceed that of the others. `None`: it is not judged by that.
    pub max_error_ratio_over: Option<Share>,
    /// By how much, in parts of theirs, its p99 latency may exceed that of the others. May exceed 100%. `None`: it is
    /// not judged by that.
    pub max_p99_over: Option<Share>,
    /// Fewer answers than this, of either side, prove nothing.
    pub min_requests: NonZeroU32,
    /// Requests that always go to it: those for which one of these holds.
    pub when: Vec<FieldCondition>,
}

impl Canary {
    /// `min_requests` where it is not given.
    pub const DEFAULT_MIN_REQUESTS: NonZeroU32 = NonZeroU32::new(200).unwrap();
}

/// A condition on a header line or a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldCondition {
    /// What is looked at.
    pub field: ConditionField,
    /// What its value must be.
    pub value: ValueMatch,
}

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionField {
    /// A header line. The name is in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
}

/// Where copies of requests go. What becomes of them never concerns the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The cluster that gets them.
    pub cluster: ClusterName,
    /// How many requests are copied.
    pub share: Share,
    /// Whether the two answers are compared.
    pub compare: bool,
    /// What may differ: field paths such as `data.timestamp`; `*` is every item of a list.
    pub ignore: Vec<String>,
    /// Whether requests are copied that may change something.
    pub unsafe_methods: bool,
}
