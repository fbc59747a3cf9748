//! Consul: where it is, and what a cluster asks of it.

use std::fmt;

use std::num::NonZeroU16;

use consul::{Address, Advertise, Client, PreparedQuery, ServiceQuery, TlsFiles};

/// Where Consul is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consul {
    /// An agent.
    pub address: Address,
    /// What it is asked with.
    pub token: Option<ConsulToken>,
    /// What TLS to it is made of, if it is reached over that.
    pub tls: TlsFiles,
}

/// What Consul is told of the gateway itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Where clients reach it, if not where it listens.
    pub advertise: Option<Advertise>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its share of the traffic, relative to other gateways'.
    pub weight: NonZeroU16,
}

impl Default for Announced {
    fn default() -> Self {
        Self {
            advertise: None,
            tags: Vec::new(),
            weight: NonZeroU16::MIN,
        }
    }
}

/// A token of Consul. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsulToken(String);

/// Endpoints that Consul knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulEndpoints {
    /// Which instances.
    pub asked: Asked,
    /// Whether instances with a warning take requests too, with the weight that they have for it.
    pub warning: bool,
    /// Whether Consul's own config entries of the service say what becomes of requests within the cluster.
    pub config_entries: bool,
}

/// Which instances of Consul's are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Those of a service, watched.
    Service {
        /// Which of them, in the datacenter that it names.
        query: ServiceQuery,
        /// More than one datacenter, the preferred one first; empty: only that of the query.
        datacenters: Vec<String>,
    },
    /// Those that a query kept by Consul says, polled.
    Prepared(PreparedQuery),
}

impl Asked {
    /// The queries to watch, one for each datacenter, the preferred one first.
    #[must_use]
    pub fn watched(&self) -> Vec<ServiceQuery> {
        let Self::Service { query, datacenters } = self else {
            return Vec::new();
        };
        if datacenters.is_empty() {
            return vec![query.clone()];
        }
        let of = |datacenter: &String| ServiceQuery {
            datacenter: Some(datacenter.clone()),
            ..query.clone()
        };
        datacenters.iter().map(of).collect()
    }

    /// The service or prepared query that it is about.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Service { query, .. } => &query.service,
            Self::Prepared(query) => &query.name,
        }
    }
}

/// For people: `service counter in Consul, tags blue, datacenters dc1, dc2`.
impl fmt::Display for ConsulEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.asked {
            Asked::Prepared(query) => {
                let PreparedQuery { name, interval, .. } = query;
                write!(
                    f,
                    "prepared query {name} of Consul, asked every {interval:?}"
                )
            }
            Asked::Service { query, datacenters } => {
                write!(f, "service {} in Consul", query.service)?;
                if !query.tags.is_empty() {
                    write!(f, ", tags {}", query.tags.join(", "))?;
                }
                if let Some(datacenter) = &query.datacenter {
                    write!(f, ", datacenter {datacenter}")?;
                }
                if !datacenters.is_empty() {
                    write!(f, ", datacenters {}", datacenters.join(", then "))?;
                }
                for (key, value) in &query.node_meta {
                    write!(f, ", node {key}={value}")?;
                }
                let more = [
                    ("filter", &query.filter),
                    ("namespace", &query.namespace),
                    ("partition", &query.partition),
                ];
                for (what, value) in more {
                    if let Some(value) = value {
                        write!(f, ", {what} {value}")?;
                    }
                }
                if self.config_entries {
                    f.write_str(", with its config entries")?;
                }
                Ok(())
            }
        }
    }
}

impl Consul {
    /// A client with the token.
    #[must_use]
    pub fn client(&self) -> Option<Client> {
        let token = self.token.as_ref().map(|token| token.0.as_str());
        // What cannot be sent is no token, which the configuration has been checked for.
        Client::with_tls(self.address.clone(), token, self.tls.clone()).ok()
    }
}

impl ConsulToken {
    /// `None`: no header can hold it.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for ConsulToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConsulToken")
    }
}
