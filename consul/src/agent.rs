//! The agent's own endpoints: registering, saying how one is, leaving.

use std::time::Duration;

use http::Method;
use serde_json::json;

use crate::client::Client;
use crate::error::{Error, Rule};
use crate::instance::json as read_json;
use crate::registration::Registration;
use crate::request::{Request, Target};

/// The agent is near: a second is long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where an agent is, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Agent {
    /// The name of its node.
    pub node: Option<String>,
    /// The datacenter of its node.
    pub datacenter: Option<String>,
    /// `zone` in the metadata of its node.
    pub zone: Option<String>,
}

impl Client {
    /// Asks the agent where it is.
    ///
    /// # Errors
    /// Why it does not say.
    pub async fn agent(&self) -> Result<Agent, Error> {
        let rule = Rule::new("agent", "read", "its own node");
        let target = Target::new("/v1/agent/self");
        let answer = self
            .send(Request::new(Method::GET, target, PATIENCE, rule))
            .await?;
        let value = read_json(&answer.body)?;
        let text = |pointer: &str| {
            let text = value.pointer(pointer).and_then(serde_json::Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        Ok(Agent {
            node: text("/Config/NodeName"),
            datacenter: text("/Config/Datacenter"),
            zone: text("/Meta/zone"),
        })
    }

    /// Registers an instance, in the place of one with the same id.
    pub(crate) async fn register(&self, what: &Registration, status: &str) -> Result<(), Error> {
        let target = Target::new("/v1/agent/service/register").flag("replace-existing-checks");
        let request = put(target, what).body(what.json(status).to_string());
        self.send(request).await.map(|_| ())
    }

    /// Deregisters an instance; one that is not registered is no error.
    pub(crate) async fn deregister(&self, what: &Registration) -> Result<(), Error> {
        let target = Target::new("/v1/agent/service/deregister").segment(&what.id());
        self.send(put(target, what).may_be_missing())
            .await
            .map(|_| ())
    }

    /// Renews a TTL check. False: the agent does not know it.
    pub(crate) async fn renew(
        &self,
        what: &Registration,
        status: &str,
        output: &str,
    ) -> Result<bool, Error> {
        let target = Target::new("/v1/agent/check/update").segment(&what.check_id());
        let body = json!({ "Status": status, "Output": output }).to_string();
        let request = put(target, what).body(body).may_be_missing();
        match self.send(request).await {
            Ok(answer) => Ok(answer.found),
            // Agents before 1.12 say it with a 500.
            Err(Error::Status {
                status: 500,
                message,
            }) if message.contains("does not have associated TTL")
                || message.contains("Unknown check") =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the agent knows the instance.
    pub(crate) async fn is_registered(&self, what: &Registration) -> Result<bool, Error> {
        let target = Target::new("/v1/agent/service").segment(&what.id());
        let rule = Rule::new("service", "read", &what.name);
        let request = Request::new(Method::GET, target, PATIENCE, rule).may_be_missing();
        self.send(request).await.map(|answer| answer.found)
    }

    /// Takes an instance out of traffic for a reason, or back in. False: the agent does not know it.
    pub(crate) async fn maintain(
        &self,
        what: &Registration,
        reason: Option<&str>,
    ) -> Result<bool, Error> {
        let target = Target::new("/v1/agent/service/maintenance")
            .segment(&what.id())
            .pair("enable", if reason.is_some() { "true" } else { "false" })
            .optional("reason", reason);
        let answer = self.send(put(target, what).may_be_missing()).await?;
        Ok(answer.found)
    }
}

fn put(target: Target, what: &Registration) -> Request {
    let rule = Rule::new("service", "write", &what.name);
    Request::new(Method::PUT, target, PATIENCE, rule)
}
