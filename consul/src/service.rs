//! What to watch of a service: `/v1/health/service/:name`, narrowed by tags, node metadata and a filter expression.
//!
//! Consul is asked for all instances, not only for those that pass: an instance that vanishes after it was critical or in
//! maintenance has left, one that vanishes out of the blue may be the catalogue's mistake, and only who saw it before can tell.

use std::time::Duration;

use http::Method;

use crate::answer::Answer;
use crate::error::{Error, Rule};
use crate::instance::{self, Instances};
use crate::request::{Request, Target};
use crate::watch::{Ask, Query};

/// Which instances to watch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceQuery {
    /// The service's name.
    pub service: String,
    /// Only instances that have all of these.
    pub tags: Vec<String>,
    /// Another datacenter than the agent's.
    pub datacenter: Option<String>,
    /// Only instances on nodes with all of this metadata.
    pub node_meta: Vec<(String, String)>,
    /// A filter expression: <https://developer.hashicorp.com/consul/api-docs/features/filtering>.
    pub filter: Option<String>,
    /// A namespace: only the paid edition has them.
    pub namespace: Option<String>,
    /// An admin partition: only the paid edition has them.
    pub partition: Option<String>,
    /// Any server may answer if it heard of the leader within this time; `None`: the leader is asked.
    pub max_stale: Option<Duration>,
}

impl Query for ServiceQuery {
    type Value = Instances;

    fn request(&self, ask: &Ask) -> Request {
        let mut target = Target::new("/v1/health/service").segment(&self.service);
        for tag in &self.tags {
            target = target.pair("tag", tag);
        }
        for (key, value) in &self.node_meta {
            target = target.pair("node-meta", &format!("{key}:{value}"));
        }
        target = target
            .optional("filter", self.filter.as_deref())
            .optional("dc", self.datacenter.as_deref())
            .optional("ns", self.namespace.as_deref())
            .optional("partition", self.partition.as_deref());
        let rule = Rule::new("service", "read", &self.service);
        Request::new(Method::GET, ask.add_to(target), ask.patience(), rule)
    }

    fn value(&self, answer: &Answer) -> Result<Instances, Error> {
        instance::parse(&answer.body)
    }

    fn may_lack_rights(&self, answer: &Answer) -> bool {
        !answer.meta.filtered && answer.body.trim_ascii() == b"[]"
    }

    fn max_stale(&self) -> Option<Duration> {
        self.max_stale
    }

    fn name(&self) -> String {
        let mut name = format!("service {}", self.service);
        if let Some(datacenter) = &self.datacenter {
            name = format!("{name} in {datacenter}");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_narrows_is_in_the_request() {
        let query = ServiceQuery {
            service: "counter".to_owned(),
            tags: vec!["v2".to_owned(), "eu west".to_owned()],
            datacenter: Some("dc2".to_owned()),
            node_meta: vec![("rack".to_owned(), "7".to_owned())],
            filter: Some("Service.Meta.canary != true".to_owned()),
            namespace: Some("team".to_owned()),
            partition: Some("part".to_owned()),
            max_stale: None,
        };
        let target = query.request(&Ask::blocking(7, false)).target;
        let (path, parameters) = target.split_once('?').unwrap_or_default();
        assert_eq!(path, "/v1/health/service/counter");
        let parameters: Vec<&str> = parameters.split('&').collect();
        for expected in [
            "tag=v2",
            "tag=eu%20west",
            "node-meta=rack%3A7",
            "filter=Service.Meta.canary%20%21%3D%20true",
            "dc=dc2",
            "ns=team",
            "partition=part",
            "index=7",
        ] {
            assert!(parameters.contains(&expected), "{expected}: {target}");
        }
        assert!(parameters.iter().any(|pair| pair.starts_with("wait=")));
        assert!(!parameters.contains(&"stale") && !parameters.contains(&"passing"));
    }
}
