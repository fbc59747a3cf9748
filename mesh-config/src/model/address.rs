//! `host:port` of a backend. The host is an IP address or a name that is resolved when it is used.
//! Refused: a missing port, port 0, a scheme (`http://`), a path, names that cannot be host names.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where a backend listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The host: a name in lower case, or an IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket address, unless the host is a name that has to be resolved.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let ip = self.host.parse::<IpAddr>().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }

    /// Reads `host:port`.
    ///
    /// # Errors
    /// What is wrong with it, and how it should look.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form =
            "write host:port, such as 127.0.0.1:50051, [::1]:50051 or backend.internal:50051";
        if text.contains("://") {
            return Err(format!("`{text}` has a scheme: {form}"));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Self::with_port(address.ip().to_string(), address.port());
        }
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| format!("`{text}` has no port: {form}"))?;
        let port = port
            .parse::<u16>()
            .map_err(|_| format!("`{port}` is not a port: {form}"))?;
        if !is_host_name(host) {
            return Err(format!(
                "`{host}` is not a host name or an IP address: {form}"
            ));
        }
        Self::with_port(host.to_ascii_lowercase(), port)
    }

    fn with_port(host: String, port: u16) -> Result<Self, String> {
        if port == 0 {
            return Err("port 0 cannot be connected to: give the port of the backend".to_owned());
        }
        Ok(Self { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Letters, digits, `-` and `_` in labels of 1 to 63, 253 in all. All-digit names are mistyped addresses.
pub(crate) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last_is_number = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && !last_is_number && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn names_and_addresses_are_understood() {
        for (text, host, shown) in [
            ("127.0.0.1:50051", "127.0.0.1", "127.0.0.1:50051"),
            ("[::1]:50051", "::1", "[::1]:50051"),
            ("Localhost:50051", "localhost", "localhost:50051"),
            (
                "my_service.prod-1.internal:1",
                "my_service.prod-1.internal",
                "my_service.prod-1.internal:1",
            ),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!(
                (address.host(), address.to_string()),
                (host, shown.to_owned())
            );
        }
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused() {
        for text in [
            "",
            "127.0.0.1",
            ":50051",
            "localhost:0",
            "127.0.0.1:0",
            "127.0.0.1:70000",
            "http://a:1",
            "a/b:1",
            "300.1.1.1:5",
            "a b:1",
            "::1:5",
            "-a:1",
            "a..b:1",
        ] {
            assert!(Address::parse(text).is_err(), "{text} was taken");
        }
    }
}
