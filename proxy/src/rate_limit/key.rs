//! Which bucket a request belongs to: the parts of its route's `key`, one after the other.
//!
//! A part that the request does not have is a value of its own, so leaving a header out is no way around. An IPv6
//! address counts by its first 64 bits: what one subscriber has (RFC 6177). Forwarding headers are not believed.

use std::net::IpAddr;

use mesh_config::model::RateKey;
use smallvec::SmallVec;
use transcode::{Captures, Variable};

use crate::edge::Head;

/// What each part begins with, so that no two lists of parts give the same bytes.
const MISSING: u8 = 0;
const TEXT: u8 = 1;
const V4: u8 = 4;
const V6: u8 = 6;

/// The parts of a key.
#[derive(Debug)]
pub(super) struct Key(Box<[RateKey]>);

/// The bytes of a key.
pub(super) type Bytes = SmallVec<[u8; 64]>;

/// What a key is taken from.
#[derive(Debug)]
pub(crate) struct Keyed<'a> {
    /// The head of the request.
    pub head: &'a Head,
    /// Where the variables of the path stand.
    pub captures: &'a Captures,
    /// The variables, in the same order.
    pub variables: &'a [Variable],
}

impl Key {
    pub(super) fn new(parts: &[RateKey]) -> Self {
        Self(parts.into())
    }

    /// The key of a request; empty if all requests share a bucket.
    pub(super) fn of(&self, request: &Keyed<'_>) -> Bytes {
        let mut bytes = Bytes::new();
        for part in &self.0 {
            match part {
                RateKey::Address => match request.head.peer().ip().to_canonical() {
                    IpAddr::V4(address) => {
                        bytes.push(V4);
                        bytes.extend_from_slice(&address.octets());
                    }
                    IpAddr::V6(address) => {
                        bytes.push(V6);
                        bytes.extend_from_slice(&address.octets()[..8]);
                    }
                },
                RateKey::Header(name) => push(&mut bytes, request.head.header(name)),
                RateKey::Path(name) => push(
                    &mut bytes,
                    request.variable(name).as_deref().map(str::as_bytes),
                ),
            }
        }
        bytes
    }
}

impl<'a> Keyed<'a> {
    /// The value of a variable, decoded: however its letters are encoded, it is the same.
    fn variable(&self, name: &str) -> Option<std::borrow::Cow<'a, str>> {
        let is_named = |variable: &Variable| variable.field.iter().eq(name.split('.'));
        let index = self.variables.iter().position(is_named)?;
        let raw = self.captures.raw(self.head.path(), index)?;
        self.variables[index].decode(raw).ok()
    }
}

/// Appends a part of any length.
fn push(bytes: &mut Bytes, part: Option<&[u8]>) {
    match part {
        None => bytes.push(MISSING),
        Some(part) => {
            bytes.push(TEXT);
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[RateKey], target: &str, headers: &[(&str, &str)]) -> Bytes {
        let mut request = http::Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let head = Head::of(&request.body(()).unwrap());
        let template = transcode::Template::parse("/v1/{name}/{shelf.id}").unwrap();
        let mut router = transcode::RouterBuilder::new();
        let entry = transcode::Entry {
            hosts: Vec::new(),
            path: transcode::PathPattern::Template(template.clone()),
            conditions: 0,
            empty_segments: false,
            value: (),
        };
        router.insert(entry).unwrap();
        let router = router.build().unwrap();
        let found = router.find(head.host(), head.path(), |(), found| {
            std::ops::ControlFlow::Break(found.captures())
        });
        let request = Keyed {
            head: &head,
            captures: &found.unwrap(),
            variables: template.variables(),
        };
        Key::new(parts).of(&request)
    }

    #[test]
    fn a_key_is_as_its_parts_are() {
        let parts = [
            RateKey::Header("x-user".into()),
            RateKey::Path("shelf.id".into()),
        ];
        let of = |target, headers: &[(&str, &str)]| key(&parts, target, headers);
        let anna = [("x-user", "anna")];
        let one = of("/v1/a/s1", &anna);
        assert_eq!(one, of("/v1/b/s1", &anna), "`name` is not part of it");
        assert_eq!(one, of("/v1/a/%731", &anna), "encoded or not");
        assert_ne!(one, of("/v1/a/s2", &anna));
        assert_ne!(one, of("/v1/a/s1", &[("x-user", "bert")]));
        assert_ne!(of("/v1/a/s1", &[]), of("/v1/a/s1", &[("x-user", "")]));
        assert!(key(&[], "/v1/a/s1", &anna).is_empty());
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let parts = [RateKey::Header("a".into()), RateKey::Header("b".into())];
        let of = |headers: &[(&str, &str)]| key(&parts, "/v1/a/b", headers);
        assert_ne!(
            of(&[("a", "xy"), ("b", "z")]),
            of(&[("a", "x"), ("b", "yz")])
        );
        assert_ne!(of(&[("a", "x")]), of(&[("b", "x")]));
    }
}
