//! What a program is told of Consul: where it is, and what to say there of itself.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;

use clap::Args;
use consul::{Address, Client};

use crate::settings::Settings;

/// The variable that Consul's own tools take the token from.
const TOKEN_VARIABLE: &str = "CONSUL_HTTP_TOKEN";

/// The flags of Consul.
#[derive(Debug, Default, Args)]
#[group(skip)]
pub struct Arguments {
    /// Register with the agent at this address, `http://HOST:PORT`; its token is read from HIGHPRESS_CONSUL_TOKEN,
    /// CONSUL_HTTP_TOKEN or the key consul_token, never from a flag
    #[arg(long, value_name = "URL")]
    consul: Option<String>,
    /// Where clients of this instance reach it, `HOST` or `HOST:PORT` [default: the listen address; if that is a
    /// wildcard, the address of this machine that routes to Consul]
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<String>,
    /// Tags to register with, separated by commas
    #[arg(long, value_name = "TAGS")]
    tags: Option<String>,
    /// The share of the traffic to register with, relative to other instances [default: 1]
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
    pub weight: NonZeroU32,
}

/// `HOST` or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertise {
    host: String,
    port: Option<u16>,
}

impl Arguments {
    /// Reads them with environment and file; `None`: the program is not to register.
    pub fn read(&self, kit: &mut Settings) -> Option<ConsulSettings> {
        let address = kit.optional::<Address>("consul", self.consul.as_deref());
        let token = kit
            .optional::<String>("consul_token", None)
            .or_else(|| std::env::var(TOKEN_VARIABLE).ok());
        let advertise = kit.optional("advertise", self.advertise.as_deref());
        let tags = kit.value_with("tags", self.tags.as_deref(), Vec::new(), tags);
        let weight = kit.value("weight", self.weight.as_deref(), NonZeroU32::MIN);
        match Client::new(address?, token.as_deref().map(str::trim)) {
            Ok(client) => Some(ConsulSettings {
                client,
                advertise,
                tags,
                weight,
            }),
            Err(why) => {
                kit.mistake("consul_token", why);
                None
            }
        }
    }
}

impl ConsulSettings {
    /// Where clients reach what serves at `bound`; without a host: where Consul is reached from.
    pub(super) fn advertised(&self, bound: SocketAddr) -> (Option<String>, u16) {
        match &self.advertise {
            Some(advertise) => (
                Some(advertise.host.clone()),
                advertise.port.unwrap_or(bound.port()),
            ),
            None if bound.ip().is_unspecified() => (None, bound.port()),
            None => (Some(bound.ip().to_string()), bound.port()),
        }
    }
}

impl FromStr for Advertise {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write HOST or HOST:PORT, such as 10.0.0.5 or node-1.internal:50051";
        if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Self::new(ip.to_string(), None).ok_or(FORM);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Self::new(address.ip().to_string(), Some(address.port())).ok_or(FORM);
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| FORM)?)),
            None => (text, None),
        };
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let named = !host.is_empty() && host.len() <= 253 && host.bytes().all(letter);
        named
            .then(|| Self::new(host.to_owned(), port))
            .flatten()
            .ok_or(FORM)
    }
}

impl Advertise {
    /// Nobody can connect to a wildcard or to port 0.
    fn new(host: String, port: Option<u16>) -> Option<Self> {
        let wildcard = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        (!wildcard && port != Some(0)).then_some(Self { host, port })
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
