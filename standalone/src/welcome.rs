//! What the program says when it is up: where to click, what to type next. Every line works as it stands.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The text, with real addresses.
pub(crate) fn text(http: SocketAddr, admin: SocketAddr, data: &Path) -> String {
    let (http, admin) = (reachable(http), reachable(admin));
    format!(
        "
  Look:   http://{admin}/    routes, clusters, configuration
  Count:  curl -X POST http://{http}/api/v1/counter/increment -d '{{\"resource_id\":\"article_001\",\"counter_type\":\"like\"}}'
  Read:   curl http://{http}/api/v1/counter/article_001/like
  Rank:   curl 'http://{http}/api/v1/counter/hot/like?limit=10&period=day'

  Counts are kept in {data}. Ctrl-C stops; started again, it goes on where it was.
",
        data = data.display()
    )
}

/// A wildcard is no address to connect to; this machine is.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_shown_as_this_machine() {
        let text = text(
            SocketAddr::from(([0, 0, 0, 0], 80)),
            SocketAddr::from(([127, 0, 0, 1], 9901)),
            Path::new("data"),
        );
        assert!(
            text.contains("http://127.0.0.1:80/api/v1/counter/article_001/like"),
            "{text}"
        );
        assert!(text.contains("http://127.0.0.1:9901/ "), "{text}");
    }
}
