//! Endpoints that a name server knows.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Address;

/// The port of name servers.
const PORT: u16 = 53;

/// Endpoints that a name server knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsEndpoints {
    /// What is looked up.
    pub name: DnsName,
    /// Who is asked; empty: those of the system.
    pub resolvers: Vec<Resolver>,
    /// Answers are believed for at least so long, whatever they say.
    pub min_ttl: Duration,
    /// And for at most so long.
    pub max_ttl: Duration,
}

/// What is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsName {
    /// The addresses of a host, each an endpoint with this port.
    Host {
        /// The host and the port.
        address: Address,
        /// Of which family.
        family: Family,
    },
    /// Host, port, priority and weight, each record an endpoint or more.
    Srv(String),
}

/// Which addresses are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Those of both.
    Any,
    /// `A`: IPv4.
    V4,
    /// `AAAA`: IPv6.
    V6,
}

/// A name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resolver {
    /// Where it is.
    pub address: SocketAddr,
    /// Whether it is asked over TCP only, not by datagrams first.
    pub tcp: bool,
}

impl Resolver {
    /// Reads `IP`, `IP:PORT` or `tcp://IP:PORT`.
    ///
    /// # Errors
    /// How it should look.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tcp, rest) = match text.split_once("://") {
            Some(("tcp", rest)) => (true, rest),
            Some(("udp", rest)) => (false, rest),
            Some(_) => return Err(form(text)),
            None => (false, text),
        };
        let address = match rest.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, PORT),
            Err(_) => rest.parse().map_err(|_| form(text))?,
        };
        if address.port() == 0 {
            return Err(form(text));
        }
        Ok(Self { address, tcp })
    }
}

fn form(text: &str) -> String {
    format!(
        "`{text}` is not a name server: write IP or IP:PORT, such as 127.0.0.1:8600, or tcp://127.0.0.1:8600"
    )
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tcp { "tcp://" } else { "" };
        write!(f, "{scheme}{}", self.address)
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { address, family } => match family {
                Family::Any => address.fmt(f),
                Family::V4 => write!(f, "A {address}"),
                Family::V6 => write!(f, "AAAA {address}"),
            },
            Self::Srv(name) => write!(f, "SRV {name}"),
        }
    }
}

/// For people: `SRV _counter._tcp.internal by DNS, asked of 127.0.0.1:8600`.
impl fmt::Display for DnsEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by DNS", self.name)?;
        for (index, resolver) in self.resolvers.iter().enumerate() {
            let before = if index == 0 { ", asked of" } else { " or" };
            write!(f, "{before} {resolver}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_name_server_is_an_address() {
        let shown = |text: &str| Resolver::parse(text).map(|one| one.to_string());
        assert_eq!(shown("127.0.0.1").unwrap(), "127.0.0.1:53");
        assert_eq!(shown("udp://[::1]:8600").unwrap(), "[::1]:8600");
        assert_eq!(shown("tcp://10.0.0.1:8600").unwrap(), "tcp://10.0.0.1:8600");
        for wrong in [
            "",
            "dns.internal",
            "https://1.1.1.1",
            "1.1.1.1:0",
            "1.1.1.1:x",
        ] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }
}
