//! Where Consul's HTTP API is: `http://host:port` or `https://host:port`, as `CONSUL_HTTP_ADDR` has it; without a scheme it is HTTP.
//! Refused: other schemes, credentials, a path, port 0.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Consul's own defaults.
const DEFAULT_PORT: u16 = 8500;
const DEFAULT_TLS_PORT: u16 = 8501;

/// Where Consul's HTTP API is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an address, without brackets.
    host: Box<str>,
    port: u16,
    tls: bool,
}

/// Why a text is no address of Consul.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an address of Consul: write http://HOST:PORT, such as http://127.0.0.1:8500, or https://HOST:PORT"
)]
pub struct AddressError;

impl Address {
    /// The host, a name or an IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is reached over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// As the `Host` header has it.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some(_) => return Err(AddressError),
            None => (false, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = host_and_port(rest).ok_or(AddressError)?;
        let port = match port {
            None if tls => DEFAULT_TLS_PORT,
            None => DEFAULT_PORT,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| AddressError)?
            }
            Some(_) => return Err(AddressError),
        };
        if port == 0 {
            return Err(AddressError);
        }
        Ok(Self {
            host: host.into(),
            port,
            tls,
        })
    }
}

fn host_and_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let named = !host.is_empty() && host.len() <= 253 && host.bytes().all(letter);
    (named || host.parse::<IpAddr>().is_ok()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        for (text, shown) in [
            ("http://127.0.0.1:8500", "http://127.0.0.1:8500"),
            ("http://consul.internal/", "http://consul.internal:8500"),
            ("127.0.0.1:18500", "http://127.0.0.1:18500"),
            ("HTTP://[::1]:8500", "http://[::1]:8500"),
            ("localhost", "http://localhost:8500"),
            ("https://127.0.0.1:7", "https://127.0.0.1:7"),
            ("HTTPS://consul.internal/", "https://consul.internal:8501"),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), shown);
        }
    }

    #[test]
    fn what_could_not_be_reached_is_refused() {
        for text in [
            "",
            "http://",
            "http://:8500",
            "http://a:b",
            "http://a:0",
            "http://a:70000",
            "http://a:8500/v1",
            "http://user:pass@a:8500",
            "unix:///run/consul.sock",
            "http://a b",
            "[::1",
            "[::1]x",
            "::1:8500",
            "a:+5",
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }
}
