//! What a program tells its agent about itself, and the JSON of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::instance::Weights;

/// An instance of a service, as it is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The service's name.
    pub name: String,
    /// Where clients reach it; `None`: at the address of this machine from which the agent is reached.
    pub address: Option<String>,
    /// The port.
    pub port: u16,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its metadata.
    pub meta: BTreeMap<String, String>,
    /// Its share of the traffic.
    pub weights: Weights,
    /// How the agent knows that it is well.
    pub check: Check,
    /// How long it may be critical before Consul forgets it; Consul knows nothing below a minute.
    pub deregister_after: Duration,
}

/// What an instance says of itself that may change while it is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Its tags.
    pub tags: Vec<String>,
    /// Its share of the traffic.
    pub weights: Weights,
}

/// How an agent knows that an instance is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// The instance says so itself, at least this often.
    Ttl(Duration),
    /// The agent asks the gRPC health service at `host:port[/service]`.
    Grpc {
        /// Whom to ask.
        target: String,
        /// How often.
        interval: Duration,
        /// How long it may take.
        timeout: Duration,
    },
    /// The agent asks by HTTP, 2xx being well.
    Http {
        /// What to ask.
        url: String,
        /// How often.
        interval: Duration,
        /// How long it may take.
        timeout: Duration,
    },
}

impl Registration {
    /// Unique among all services of the agent, and the same after every restart: an instance that was killed and comes back takes
    /// its own place instead of leaving a dead one behind.
    #[must_use]
    pub fn id(&self) -> String {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        };
        let address = self.address.as_deref().unwrap_or_default();
        let address: String = address.chars().map(plain).collect();
        format!("{}-{address}-{}", self.name, self.port)
    }

    /// What of it may change.
    pub(crate) fn announced(&self) -> Announced {
        Announced {
            tags: self.tags.clone(),
            weights: self.weights,
        }
    }

    /// Says something else of it; whether it is something else.
    pub(crate) fn announce(&mut self, announced: Announced) -> bool {
        let news = self.announced() != announced;
        (self.tags, self.weights) = (announced.tags, announced.weights);
        news
    }

    pub(crate) fn check_id(&self) -> String {
        format!("service:{}", self.id())
    }

    /// The body of `/v1/agent/service/register`. `status` is the check's until it is known better.
    pub(crate) fn json(&self, status: &str) -> Value {
        let mut check = json!({
            "CheckID": self.check_id(),
            "Name": self.check.name(),
            "Status": status,
            "DeregisterCriticalServiceAfter": duration(self.deregister_after),
        });
        let (kind, value) = match &self.check {
            Check::Ttl(ttl) => ("TTL", duration(*ttl)),
            Check::Grpc { target, .. } => ("GRPC", target.clone()),
            Check::Http { url, .. } => ("HTTP", url.clone()),
        };
        check[kind] = value.into();
        if let Check::Grpc {
            interval, timeout, ..
        }
        | Check::Http {
            interval, timeout, ..
        } = &self.check
        {
            check["Interval"] = duration(*interval).into();
            check["Timeout"] = duration(*timeout).into();
        }
        json!({
            "ID": self.id(),
            "Name": self.name,
            "Address": self.address,
            "Port": self.port,
            "Tags": self.tags,
            "Meta": self.meta,
            "Weights": { "Passing": self.weights.passing, "Warning": self.weights.warning },
            "Check": check,
        })
    }
}

impl Check {
    fn name(&self) -> &'static str {
        match self {
            Self::Ttl(_) => "what the instance says of itself",
            Self::Grpc { .. } => "gRPC health",
            Self::Http { .. } => "HTTP health",
        }
    }
}

/// As Go reads it.
fn duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(check: Check) -> Registration {
        Registration {
            name: "counter".to_owned(),
            address: Some("::1".to_owned()),
            port: 50051,
            tags: vec!["v1".to_owned()],
            meta: BTreeMap::from([("admin_port".to_owned(), "8081".to_owned())]),
            weights: Weights {
                passing: 3,
                warning: 1,
            },
            check,
            deregister_after: Duration::from_secs(60),
        }
    }

    #[test]
    fn the_agent_is_told_all_of_it() {
        let sent = registration(Check::Ttl(Duration::from_secs(5))).json("critical");
        assert_eq!(sent["ID"], "counter---1-50051");
        assert_eq!(sent["Weights"], json!({ "Passing": 3, "Warning": 1 }));
        assert_eq!(sent["Check"]["TTL"], "5000ms");
        assert_eq!(sent["Check"]["Status"], "critical");
        assert_eq!(sent["Check"]["DeregisterCriticalServiceAfter"], "60000ms");
        assert_eq!(sent["Check"].get("Interval"), None);

        let grpc = Check::Grpc {
            target: "127.0.0.1:50051".to_owned(),
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
        };
        let sent = registration(grpc).json("passing");
        assert_eq!(sent["Check"]["GRPC"], "127.0.0.1:50051");
        assert_eq!(sent["Check"]["Interval"], "2000ms");
    }
}
