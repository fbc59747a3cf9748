//! Prepared queries: Consul itself decides, by a definition that operators keep there, which instances of which service in which
//! datacenter are meant. `/v1/query/:name/execute` cannot block, so it is the one thing that is polled, at a stated interval.
//!
//! <https://developer.hashicorp.com/consul/api-docs/query#execute-prepared-query>

use std::time::Duration;

use http::Method;

use crate::answer::Answer;
use crate::error::{Error, Rule};
use crate::instance::{self, Instances};
use crate::request::{Request, Target};
use crate::watch::{Ask, Query};

/// A prepared query to be asked again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedQuery {
    /// Its name or id.
    pub name: String,
    /// How often it is asked, give or take a tenth.
    pub interval: Duration,
    /// Another datacenter than the agent's.
    pub datacenter: Option<String>,
    /// A namespace: only the paid edition has them.
    pub namespace: Option<String>,
    /// An admin partition: only the paid edition has them.
    pub partition: Option<String>,
    /// Any server may answer if it heard of the leader within this time; `None`: the leader is asked.
    pub max_stale: Option<Duration>,
}

impl Query for PreparedQuery {
    type Value = Instances;

    fn request(&self, ask: &Ask) -> Request {
        let target = Target::new("/v1/query")
            .segment(&self.name)
            .rest("execute")
            .optional("dc", self.datacenter.as_deref())
            .optional("ns", self.namespace.as_deref())
            .optional("partition", self.partition.as_deref());
        let rule = Rule::new("query", "read", &self.name);
        Request::new(Method::GET, ask.add_to(target), ask.patience(), rule)
    }

    fn value(&self, answer: &Answer) -> Result<Instances, Error> {
        instance::parse_executed(&answer.body)
    }

    fn max_stale(&self) -> Option<Duration> {
        self.max_stale
    }

    fn interval(&self) -> Option<Duration> {
        Some(self.interval)
    }

    fn name(&self) -> String {
        format!("prepared query {}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_one_segment_and_nothing_blocks() {
        let query = PreparedQuery {
            name: "a/b".to_owned(),
            interval: Duration::from_secs(5),
            datacenter: Some("dc2".to_owned()),
            namespace: None,
            partition: None,
            max_stale: None,
        };
        let target = query.request(&Ask::once()).target;
        assert_eq!(target, "/v1/query/a%2Fb/execute?dc=dc2");
    }
}
