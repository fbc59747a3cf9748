//! Consul: where it is, and what a cluster asks of it.

use std::fmt;

use consul::{Address, Client, ServiceQuery};

/// Where Consul is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consul {
    /// An agent.
    pub address: Address,
    /// What it is asked with.
    pub token: Option<ConsulToken>,
}

/// A token of Consul. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsulToken(String);

/// Endpoints that Consul knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulEndpoints {
    /// Which instances.
    pub query: ServiceQuery,
    /// Whether instances with a warning take requests too, with the weight that they have for it.
    pub warning: bool,
}

impl Consul {
    /// A client with the token.
    #[must_use]
    pub fn client(&self) -> Option<Client> {
        let token = self.token.as_ref().map(|token| token.0.as_str());
        // What cannot be sent is no token, which the configuration has been checked for.
        Client::new(self.address.clone(), token).ok()
    }
}

impl ConsulToken {
    /// `None`: no header can hold it.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for ConsulToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConsulToken")
    }
}
