//! What a sticky split goes by: the part of a request whose equals go the same way. A request that does not have
//! it goes any way.

use mesh_config::model::HashOn;
use resilience::split;

use crate::edge::Head;
use crate::entries::cookie_in;

/// The part of a request that is hashed.
#[derive(Debug)]
pub(crate) struct Sticky(HashOn);

impl Sticky {
    pub(super) fn new(on: HashOn) -> Self {
        Self(on)
    }

    /// The variable of the path that it is, if it is one.
    pub(super) fn variable(&self) -> Option<&str> {
        match &self.0 {
            HashOn::Path(name) => Some(name),
            _ => None,
        }
    }

    /// Where a request stands; `variable` is the text of [`Self::variable`].
    pub(super) fn point(&self, head: &Head, variable: Option<&str>) -> Option<u64> {
        let part = match &self.0 {
            HashOn::Header(name) => head.header(name)?,
            HashOn::Cookie(name) => cookie(head, name)?,
            HashOn::Query(name) => query(head, name)?,
            HashOn::Path(_) => variable?.as_bytes(),
            HashOn::Address => return Some(address(head)),
        };
        Some(split::point(part))
    }
}

fn address(head: &Head) -> u64 {
    match head.peer().ip().to_canonical() {
        std::net::IpAddr::V4(ip) => split::point(&ip.octets()),
        std::net::IpAddr::V6(ip) => split::point(&ip.octets()),
    }
}

/// The value of a cookie (RFC 6265 section 4.2.1).
pub(super) fn cookie<'h>(head: &'h Head, name: &str) -> Option<&'h [u8]> {
    let lines = head.headers().filter(|(field, _)| *field == b"cookie");
    cookie_in(lines.map(|(_, line)| line), name)
}

/// The raw value of a query parameter; its name must stand there as it is.
fn query<'h>(head: &'h Head, name: &str) -> Option<&'h [u8]> {
    let pairs = head.query()?.split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str, cookies: &[&str]) -> Head {
        let mut request = http::Request::get(target);
        for cookie in cookies {
            request = request.header("cookie", *cookie);
        }
        Head::of(&request.body(()).unwrap())
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_in_any_line() {
        let head = head("/", &["xsid=1; sid2=2", "a=b;sid=3; sid=4"]);
        assert_eq!(cookie(&head, "sid"), Some(&b"3"[..]));
        assert_eq!(cookie(&head, "id"), None);
    }

    #[test]
    fn equal_parts_stand_at_the_same_point_and_missing_ones_nowhere() {
        let by = |on: HashOn, target: &str, variable| {
            Sticky::new(on).point(&head(target, &[]), variable)
        };
        let on = || HashOn::Query("user".into());
        assert_eq!(by(on(), "/a?user=7", None), by(on(), "/b?x=1&user=7", None));
        assert_ne!(by(on(), "/a?user=7", None), by(on(), "/a?user=8", None));
        assert_eq!(by(on(), "/a?users=7", None), None);
        assert_eq!(by(HashOn::Path("id".into()), "/a", None), None);
        assert!(by(HashOn::Path("id".into()), "/a", Some("7")).is_some());
        assert!(by(HashOn::Address, "/a", None).is_some());
    }
}
