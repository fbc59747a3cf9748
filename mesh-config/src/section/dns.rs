//! `clusters[].endpoints.dns`: the name that a cluster's endpoints are looked up by.

use std::time::Duration;

use crate::model::{Address, DnsEndpoints, DnsName, Family, Resolver, is_host_name};
use crate::reader::Value;
use crate::report::Report;
use crate::schema::{Choices, DNS_ENDPOINTS};
use crate::yaml::Kind;

/// Some servers say 0, and mean that nobody should keep the answer.
const MIN_TTL: Duration = Duration::from_secs(1);
/// A record that lives for a day is looked at again before: an address that has moved should not be missed for so long.
const MAX_TTL: Duration = Duration::from_secs(60);
/// A busier one would be a load on the server.
const LEAST_TTL: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
enum Type {
    Host(Family),
    Srv,
}

const TYPES: Choices<Type> = &[
    ("any", Some(Type::Host(Family::Any))),
    ("a", Some(Type::Host(Family::V4))),
    ("aaaa", Some(Type::Host(Family::V6))),
    ("srv", Some(Type::Srv)),
];

/// `"host:port"`, or a map.
pub(crate) fn endpoints(value: &Value<'_>, report: &mut Report) -> Option<DnsEndpoints> {
    if let Kind::Scalar(_) = &value.node.kind {
        return Some(DnsEndpoints {
            name: name(value, Type::Host(Family::Any), report)?,
            resolvers: Vec::new(),
            min_ttl: MIN_TTL,
            max_ttl: MAX_TTL,
        });
    }
    let fields = value.fields(&DNS_ENDPOINTS, report)?;
    let kind = fields.or("type", Type::Host(Family::Any), report, |value, report| {
        value.choice(TYPES, report)
    });
    let name = fields.required("name", report, |value, report| name(value, kind, report));
    let resolvers = fields.read("resolvers", report, |value, report| {
        value.set(report, Resolver::parse)
    });
    let min_ttl = fields.or("min_ttl", MIN_TTL, report, ttl);
    let max_ttl = fields.or("max_ttl", MAX_TTL.max(min_ttl), report, ttl);
    if max_ttl < min_ttl {
        let why = format!("it is shorter than `min_ttl`, {min_ttl:?}");
        value.problem_below(report, "max_ttl", why);
    }
    Some(DnsEndpoints {
        name: name?,
        resolvers: resolvers.unwrap_or_default(),
        min_ttl,
        max_ttl,
    })
}

fn name(value: &Value<'_>, kind: Type, report: &mut Report) -> Option<DnsName> {
    match kind {
        Type::Host(family) => {
            let address = value.parsed(report, Address::parse)?;
            let other = match (address.socket_addr(), family) {
                (Some(at), Family::V4) => at.is_ipv6(),
                (Some(at), Family::V6) => at.is_ipv4(),
                _ => false,
            };
            if other {
                return value.wrong(report, "this address is of the other family than `type`");
            }
            Some(DnsName::Host { address, family })
        }
        Type::Srv => value.parsed(report, srv).map(DnsName::Srv),
    }
}

fn srv(text: &str) -> Result<String, String> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    if bare.contains(':') {
        return Err("an SRV record names the ports: write the name without one".to_owned());
    }
    if !is_host_name(bare) {
        return Err(format!(
            "`{text}` is not a name: write it as _counter._tcp.internal"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

fn ttl(value: &Value<'_>, report: &mut Report) -> Option<Duration> {
    let ttl = value.timeout(report)?.get();
    if ttl < LEAST_TTL {
        return value.wrong(report, format!("that is too often: at least {LEAST_TTL:?}"));
    }
    Some(ttl)
}
