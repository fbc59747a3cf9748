//! Which key of which Consul is meant, and whose configuration it holds.

use consul::{Address, Client};
use mesh_config::model::ConsulToken;
use mesh_config::{Given, KvKey, Place, Sources};

use super::super::Failure;
use crate::cli::{At, tls_of_environment};

const DEFAULT_CONSUL: &str = "http://127.0.0.1:8500";
const DEFAULT_ENVIRONMENT: &str = "prod";
/// The service that this program is.
pub(super) const GATEWAY: &str = "gateway";

/// A key, and what its value is validated with.
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) service: String,
    /// What the gateway has beside the key.
    pub(super) sources: Sources,
}

impl Target {
    pub(super) fn of(at: &At) -> Result<Self, Failure> {
        let token = |text: &str| {
            let known = ConsulToken::new(text.trim());
            known.ok_or_else(|| Failure::Usage("the token has characters that no token has".into()))
        };
        let from = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let given = Given {
            consul: at.consul.clone(),
            token: at.token.as_deref().map(token).transpose()?,
            fallback_token: from("CONSUL_HTTP_TOKEN")
                .as_deref()
                .map(token)
                .transpose()?,
            tls: tls_of_environment(),
            key: at.kv.clone(),
        };
        let mut sources = Sources {
            file: at.file.clone(),
            given,
            ..Sources::default()
        };
        let service = at.service.clone();
        // A file says the key of its own gateway only.
        let named = at.env.is_none() && service.is_none() || at.kv.is_some();
        let written = mesh_config::place(&sources).filter(|_| named);
        let service = service.unwrap_or_else(|| GATEWAY.to_owned());
        let place = match written {
            Some(place) => place,
            None => {
                let environment = at.env.as_deref().unwrap_or(DEFAULT_ENVIRONMENT);
                let key = KvKey::of(environment, &service).map_err(Failure::Usage)?;
                sources.given.key = Some(at.kv.clone().unwrap_or(key));
                match mesh_config::place(&sources) {
                    Some(place) => place,
                    None => anywhere(&mut sources, from("CONSUL_HTTP_ADDR"))?,
                }
            }
        };
        Ok(Self {
            place,
            service,
            sources,
        })
    }

    pub(super) fn client(&self) -> Result<Client, Failure> {
        let client = self.place.consul.client();
        client.ok_or_else(|| Failure::Usage("the token cannot be sent".to_owned()))
    }
}

/// Where Consul is if nobody says it of the mesh.
fn anywhere(sources: &mut Sources, address: Option<String>) -> Result<Place, Failure> {
    let text = address.unwrap_or_else(|| DEFAULT_CONSUL.to_owned());
    let address: Address = text
        .parse()
        .map_err(|why| Failure::Usage(format!("CONSUL_HTTP_ADDR: {why}")))?;
    sources.given.consul = Some(address);
    let place = mesh_config::place(sources);
    place.ok_or_else(|| Failure::Usage("which Consul? Give --consul URL".to_owned()))
}
