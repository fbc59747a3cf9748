//! What a program is told of Consul: where it is, and what to say there of itself.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use consul::{Address, Advertise, Announced, Client, TlsFiles, Weights};
use mesh_config::KvKey;

use crate::settings::Settings;

/// The variables that Consul's own tools take the token and what TLS is made of from.
const TOKEN_VARIABLE: &str = "CONSUL_HTTP_TOKEN";
const CA_VARIABLE: &str = "CONSUL_CACERT";
const CERT_VARIABLE: &str = "CONSUL_CLIENT_CERT";
const KEY_VARIABLE: &str = "CONSUL_CLIENT_KEY";
const SERVER_NAME_VARIABLE: &str = "CONSUL_TLS_SERVER_NAME";

/// The flags of Consul.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
pub struct Arguments {
    /// Register with the agent at this address, `http://HOST:PORT` or `https://HOST:PORT`; its token is read from HIGHPRESS_CONSUL_TOKEN,
    /// CONSUL_HTTP_TOKEN or the key consul_token, never from a flag
    #[arg(long, value_name = "URL")]
    consul: Option<String>,
    /// Over https, believe only certificates of the authorities in this file (PEM) [default: CONSUL_CACERT, else the system's]
    #[arg(long, value_name = "FILE")]
    consul_ca: Option<String>,
    /// Over https, show this certificate (PEM) [default: CONSUL_CLIENT_CERT]
    #[arg(long, value_name = "FILE")]
    consul_cert: Option<String>,
    /// The key of that certificate (PEM) [default: CONSUL_CLIENT_KEY]
    #[arg(long, value_name = "FILE")]
    consul_key: Option<String>,
    /// The name that Consul's certificate has to be for, instead of the address's host [default: CONSUL_TLS_SERVER_NAME]
    #[arg(long, value_name = "NAME")]
    consul_server_name: Option<String>,
    /// How Consul knows that this instance is well: `ttl`, it says so itself, or `grpc`, the agent asks its gRPC health
    /// service, for which it has to reach it [default: ttl]
    #[arg(long, value_name = "KIND")]
    check: Option<String>,
    /// The environment whose settings in Consul count: the key high-go-press/config/ENV/SERVICE lies over the file, and is
    /// followed [default: prod]
    #[arg(long, value_name = "ENV")]
    env: Option<String>,
    /// Another key that holds the settings
    #[arg(long, value_name = "KEY")]
    consul_kv: Option<String>,
    /// Where clients of this instance reach it, `HOST` or `HOST:PORT` [default: the listen address; if that is a
    /// wildcard, the address of this machine that routes to Consul]
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<String>,
    /// Tags to register with, separated by commas
    #[arg(long, value_name = "TAGS")]
    tags: Option<String>,
    /// The share of the traffic to register with, relative to other instances: 1 to 65535 [default: 1]
    #[arg(long, value_name = "N")]
    weight: Option<String>,
}

/// Where Consul is, and what to say there.
#[derive(Debug, Clone)]
pub struct ConsulSettings {
    /// The agent, with the token.
    pub client: Client,
    /// Where clients reach this instance, if it was said.
    pub advertise: Option<Advertise>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its share of the traffic.
    pub weight: NonZeroU16,
    /// How Consul knows that it is well.
    pub check: CheckKind,
}

/// How Consul knows that an instance is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CheckKind {
    /// It says so itself.
    #[default]
    Ttl,
    /// The agent asks its gRPC health service.
    Grpc,
}

impl Arguments {
    /// Reads them with environment and file; `None`: the program is not to register.
    pub fn read(&self, kit: &mut Settings) -> Option<ConsulSettings> {
        let (address, token) = self.whereabouts(kit);
        self.environment(kit);
        self.key(kit);
        let advertise = kit.optional("advertise", self.advertise.as_deref());
        let tags = kit.value_with("tags", self.tags.as_deref(), Vec::new(), tags);
        let weight = kit.value("weight", self.weight.as_deref(), NonZeroU16::MIN);
        let check = kit.value("check", self.check.as_deref(), CheckKind::Ttl);
        let tls = self.tls(kit);
        let address = address?;
        if address.is_tls()
            && let Err(why) = tls.check()
        {
            kit.mistake("consul_ca", why);
            return None;
        }
        match Client::with_tls(address, token.as_deref().map(str::trim), tls) {
            Ok(client) => Some(ConsulSettings {
                client,
                advertise,
                tags,
                weight,
                check,
            }),
            Err(why) => {
                kit.mistake("consul_token", why);
                None
            }
        }
    }
}

impl Arguments {
    pub(crate) fn tls(&self, kit: &mut Settings) -> TlsFiles {
        let mut text = |name: &str, flag: &Option<String>, variable: &str| {
            let told = kit.optional::<String>(name, flag.as_deref());
            let told = told.or_else(|| std::env::var(variable).ok());
            told.filter(|text| !text.is_empty())
        };
        TlsFiles {
            ca: text("consul_ca", &self.consul_ca, CA_VARIABLE).map(PathBuf::from),
            cert: text("consul_cert", &self.consul_cert, CERT_VARIABLE).map(PathBuf::from),
            key: text("consul_key", &self.consul_key, KEY_VARIABLE).map(PathBuf::from),
            server_name: text(
                "consul_server_name",
                &self.consul_server_name,
                SERVER_NAME_VARIABLE,
            ),
        }
    }

    /// The agent, and the token.
    pub(crate) fn whereabouts(&self, kit: &mut Settings) -> (Option<Address>, Option<String>) {
        let address = kit.optional::<Address>("consul", self.consul.as_deref());
        let token = kit
            .optional::<String>("consul_token", None)
            .or_else(|| std::env::var(TOKEN_VARIABLE).ok());
        (address, token)
    }

    /// The environment whose settings count.
    pub(crate) fn environment(&self, kit: &mut Settings) -> Option<String> {
        kit.optional_with("env", self.env.as_deref(), |text| {
            KvKey::of(text, "service").map(|_| text.to_owned())
        })
    }

    /// The key that holds the settings, if it is another one.
    pub(crate) fn key(&self, kit: &mut Settings) -> Option<KvKey> {
        kit.optional("consul_kv", self.consul_kv.as_deref())
    }
}

impl FromStr for CheckKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ttl" => Ok(Self::Ttl),
            "grpc" => Ok(Self::Grpc),
            _ => Err("write ttl or grpc"),
        }
    }
}

impl ConsulSettings {
    /// What it says of itself that may change.
    #[must_use]
    pub fn announced(&self) -> Announced {
        Announced {
            tags: self.tags.clone(),
            weights: Weights {
                passing: self.weight.get().into(),
                ..Weights::default()
            },
        }
    }

    /// Where clients reach what serves at `bound`; without a host: where Consul is reached from.
    pub(super) fn advertised(&self, bound: SocketAddr) -> (Option<String>, u16) {
        match &self.advertise {
            Some(advertise) => (
                Some(advertise.host().to_owned()),
                advertise.port().unwrap_or(bound.port()),
            ),
            None if bound.ip().is_unspecified() => (None, bound.port()),
            None => (Some(bound.ip().to_string()), bound.port()),
        }
    }
}

fn tags(text: &str) -> Result<Vec<String>, String> {
    let tags: Vec<String> = text.split(',').map(|tag| tag.trim().to_owned()).collect();
    if tags.iter().any(String::is_empty) {
        return Err("an empty tag: write them as one,two".to_owned());
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::settings::Mistakes;

    fn read(
        arguments: Arguments,
        file_token: &'static str,
    ) -> Result<Option<ConsulSettings>, Mistakes> {
        let mut kit = Settings::open_in(None, move |name| {
            (name == "HIGHPRESS_CONSUL_TOKEN").then(|| file_token.to_owned())
        });
        let settings = arguments.read(&mut kit);
        kit.finish().map(|()| settings)
    }

    fn given(consul: &str, advertise: Option<&str>) -> Arguments {
        Arguments {
            consul: Some(consul.to_owned()),
            advertise: advertise.map(str::to_owned),
            tags: Some("eu, v2".to_owned()),
            weight: Some("3".to_owned()),
            ..Arguments::default()
        }
    }

    #[test]
    fn what_is_advertised_can_be_connected_to() {
        let at = |advertise, bound: &str| {
            let settings = read(given("http://127.0.0.1:8500", advertise), "")
                .unwrap()
                .unwrap();
            let (host, port) = settings.advertised(bound.parse().unwrap());
            (host.unwrap_or_default(), port)
        };
        let wildcard = "0.0.0.0:50051";
        assert_eq!(at(None, "127.0.0.1:7"), ("127.0.0.1".to_owned(), 7));
        assert_eq!(at(None, wildcard), (String::new(), 50051));
        assert_eq!(
            at(Some("10.0.0.5"), wildcard),
            ("10.0.0.5".to_owned(), 50051)
        );
        assert_eq!(at(Some("node-1:81"), wildcard), ("node-1".to_owned(), 81));
        assert_eq!(at(Some("[::1]:81"), wildcard), ("::1".to_owned(), 81));
        assert_eq!(at(Some("::1"), wildcard), ("::1".to_owned(), 50051));
        for wrong in ["", "0.0.0.0", "a:0", "a:b", "a b", "http://a", "[::]:5"] {
            assert!(
                read(given("localhost", Some(wrong)), "").is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let settings = read(given("localhost", None), "very-secret").unwrap();
        assert!(!format!("{settings:?}").contains("very-secret"));
        let mistakes = read(given("localhost", None), "very\u{7f}secret").unwrap_err();
        assert!(mistakes.to_string().contains("consul-token"), "{mistakes}");
        assert!(!mistakes.to_string().contains("secret"), "{mistakes}");
        assert!(read(Arguments::default(), "x").unwrap().is_none());
    }
}
