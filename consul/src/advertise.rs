//! Where clients reach an instance, as Consul is told. Refused: what nobody can connect to.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// `HOST` or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertise {
    host: String,
    port: Option<u16>,
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
    /// A name or an IP address, an IPv6 one without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if it is another one than that which the instance has bound.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Nobody can connect to a wildcard or to port 0.
    fn new(host: String, port: Option<u16>) -> Option<Self> {
        let wildcard = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        (!wildcard && port != Some(0)).then_some(Self { host, port })
    }
}
