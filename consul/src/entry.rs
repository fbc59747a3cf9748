//! Config entries: what operators have written into Consul about the traffic of a service, watched one by one.
//!
//! <https://developer.hashicorp.com/consul/api-docs/config>

use std::fmt;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::answer::Answer;
use crate::error::{Error, Rule};
use crate::instance::json;
use crate::request::{Request, Target};
use crate::watch::{Ask, Query};

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// Which requests go where.
    Router,
    /// Which share goes where.
    Splitter,
    /// What the instances are, and who takes their place.
    Resolver,
}

/// An entry to watch; there may be none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryQuery {
    /// Of what kind.
    pub kind: EntryKind,
    /// The service that it is about.
    pub service: String,
    /// A namespace: only the paid edition has them.
    pub namespace: Option<String>,
    /// An admin partition: only the paid edition has them.
    pub partition: Option<String>,
}

impl EntryKind {
    /// As Consul writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Router => "service-router",
            Self::Splitter => "service-splitter",
            Self::Resolver => "service-resolver",
        }
    }
}

impl fmt::Display for EntryQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.service)
    }
}

impl Query for EntryQuery {
    /// The entry as it is written; `None`: there is none.
    type Value = Option<Value>;

    fn request(&self, ask: &Ask) -> Request {
        let target = Target::new("/v1/config")
            .segment(self.kind.as_str())
            .segment(&self.service)
            .optional("ns", self.namespace.as_deref())
            .optional("partition", self.partition.as_deref());
        let rule = Rule::new("service", "read", &self.service);
        Request::new(Method::GET, ask.add_to(target), ask.patience(), rule).may_be_missing()
    }

    fn value(&self, answer: &Answer) -> Result<Option<Value>, Error> {
        if !answer.found {
            return Ok(None);
        }
        match json(&answer.body)? {
            entry @ Value::Object(_) => Ok(Some(entry)),
            _ => Err(Error::nonsense("the answer is not a config entry")),
        }
    }

    fn max_stale(&self) -> Option<Duration> {
        None
    }

    fn name(&self) -> String {
        self.to_string()
    }
}
