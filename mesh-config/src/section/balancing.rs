//! `clusters[].load_balancing`, `locality` and `routes[].subset`: which endpoint is picked, and among which.

use std::num::NonZeroU32;

use super::endpoint;
use crate::model::{BalancingPolicy, Connections, LoadBalancing, Locality, Place, Share, Subset};
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::{CONNECTIONS, Choices, LOAD_BALANCING, LOCALITY};
use crate::yaml::Kind;

const POLICIES: Choices<BalancingPolicy> = &[
    ("p2c", Some(BalancingPolicy::P2c)),
    ("round_robin", Some(BalancingPolicy::RoundRobin)),
    ("random", Some(BalancingPolicy::Random)),
    ("least_request", Some(BalancingPolicy::LeastRequest)),
    ("ring_hash", Some(BalancingPolicy::RingHash)),
    ("maglev", Some(BalancingPolicy::Maglev)),
];

const LOCALITIES: Choices<Locality> = &[
    ("none", Some(Locality::Anywhere)),
    ("zone", Some(Locality::Zone)),
    ("node", Some(Locality::Node)),
];

const FALLBACKS: Choices<bool> = &[("none", Some(false)), ("any", Some(true))];

const MOST_POINTS: NonZeroU32 = NonZeroU32::new(65_536).unwrap();
const MOST_ENTRIES: NonZeroU32 = NonZeroU32::new(5_000_011).unwrap();

pub(crate) fn load_balancing(value: &Value<'_>, report: &mut Report) -> Option<LoadBalancing> {
    let fields = value.fields(&LOAD_BALANCING, report)?;
    let defaults = LoadBalancing::default();
    let policy = fields.required("policy", report, |value, report| {
        value.choice(POLICIES, report)
    });
    let locality = fields.or("locality", defaults.locality, report, |value, report| {
        value.choice(LOCALITIES, report)
    });
    let bounded_load = fields.or("bounded_load", defaults.bounded_load, report, bounded_load);
    let ring_points = fields.or(
        "ring_points",
        defaults.ring_points,
        report,
        |value, report| value.up_to(MOST_POINTS, report),
    );
    let table_size = fields.or("table_size", defaults.table_size, report, table_size);
    let connections = fields.or("connections", defaults.connections, report, connections);
    if let Some(policy) = policy {
        for (key, by) in [
            (
                "bounded_load",
                &[BalancingPolicy::RingHash, BalancingPolicy::Maglev][..],
            ),
            ("ring_points", &[BalancingPolicy::RingHash]),
            ("table_size", &[BalancingPolicy::Maglev]),
        ] {
            refuse_idle(&fields, key, policy, by, report);
        }
    }
    Some(LoadBalancing {
        policy: policy?,
        ring_points,
        table_size,
        bounded_load,
        locality,
        connections,
        ..defaults
    })
}

fn connections(value: &Value<'_>, report: &mut Report) -> Option<Connections> {
    let fields = value.fields(&CONNECTIONS, report)?;
    let warm = fields.or("warm", Connections::default().warm, report, Value::boolean);
    let max_endpoints = fields.read("max_endpoints", report, Value::positive);
    Some(Connections {
        warm,
        max_endpoints,
    })
}

/// What one policy has is nothing to another.
fn refuse_idle(
    fields: &Fields<'_>,
    key: &'static str,
    policy: BalancingPolicy,
    by: &[BalancingPolicy],
    report: &mut Report,
) {
    if let Some(value) = fields.get(key).filter(|_| !by.contains(&policy)) {
        let by: Vec<&str> = by.iter().map(|policy| policy.as_str()).collect();
        let (by, policy) = (by.join(" and "), policy.as_str());
        value.problem(
            report,
            format!("the policy is {policy}, and this is for {by}: remove it"),
        );
    }
}

/// More than 100%, or `off`.
fn bounded_load(value: &Value<'_>, report: &mut Report) -> Option<Option<Share>> {
    if let Kind::Scalar(scalar) = &value.node.kind
        && scalar.text == "off"
    {
        return Some(None);
    }
    match value.any_share(report)? {
        share if share > Share::ALL => Some(Some(share)),
        share => value.wrong(
            report,
            format!("{share} leaves no room: write more than 100%, such as 125%, or off"),
        ),
    }
}

fn table_size(value: &Value<'_>, report: &mut Report) -> Option<NonZeroU32> {
    let size = value.up_to(MOST_ENTRIES, report)?;
    if is_prime(size.get()) {
        return Some(size);
    }
    let next = (size.get()..).find(|number| is_prime(*number));
    let next = next.map_or_else(String::new, |next| format!(", such as {next}"));
    value.wrong(
        report,
        format!("{size} is not prime: write a prime number{next}"),
    )
}

fn is_prime(number: u32) -> bool {
    number > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

/// Where the gateway is. Empty text is nothing, so that a variable that is not set may stand there.
pub(crate) fn place(value: &Value<'_>, report: &mut Report) -> Option<Place> {
    let fields = value.fields(&LOCALITY, report)?;
    if fields.is_empty() {
        return value.wrong(report, "it says nothing: give zone or node");
    }
    let mut text = |key| {
        let value = fields.get(key).filter(|value| !value.is_empty_text());
        value.and_then(|value| value.text(report)).map(Box::from)
    };
    Some(Place {
        node: text("node"),
        zone: text("zone"),
    })
}

/// Clusters that prefer what is near, where nobody says where the gateway is.
pub(crate) fn refuse_nowhere(
    clusters: &Value<'_>,
    place: &Place,
    asks_consul: bool,
    report: &mut Report,
) {
    let Kind::List(items) = &clusters.node.kind else {
        return;
    };
    for (index, node) in items.iter().enumerate() {
        let path = format!("{}[{index}]", clusters.path);
        let cluster = Value { node, path };
        let word = cluster.find("load_balancing.locality");
        let word = word.and_then(|node| match &node.kind {
            Kind::Scalar(scalar) => Some(scalar.text.as_str()),
            _ => None,
        });
        let chosen = LOCALITIES.iter().find(|(known, _)| Some(*known) == word);
        let Some((word, Some(locality))) = chosen else {
            continue;
        };
        if !place.is_enough_for(*locality) && !asks_consul {
            let why = format!(
                "it is not known in which {word} the gateway is: add `locality: {{ {word}: \"${{{}}}\" }}` at the top level",
                word.to_uppercase()
            );
            cluster.problem_below(report, "load_balancing.locality", why);
        }
    }
}

/// `subset: { version: v2, tags: [blue] }`, and what is done where it has nobody.
pub(crate) fn subset(fields: &Fields<'_>, report: &mut Report) -> Option<Subset> {
    let or_any = fields.read("subset_fallback", report, |value, report| {
        value.choice(FALLBACKS, report)
    });
    let Some(value) = fields.get("subset") else {
        if let Some(fallback) = fields.get("subset_fallback") {
            fallback.problem(
                report,
                "there is no `subset` that it could stand in for: remove it",
            );
        }
        return None;
    };
    let mut tags = Vec::new();
    let mut metadata = Vec::new();
    for (key, value) in value.entries(report)? {
        match key {
            "tags" => tags.extend(endpoint::tags(&value, report)?),
            key => metadata.push((key, value.text(report)?)),
        }
    }
    Some(Subset {
        tags: tags.into(),
        metadata: metadata.into_iter().collect(),
        or_any: or_any.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::is_prime;

    #[test]
    fn primes_are_known() {
        for number in [2, 3, 5, 251, 65_537, 655_373, 5_000_011] {
            assert!(is_prime(number), "{number}");
        }
        for number in [0, 1, 4, 9, 65_536, 65_535, 4_294_967_295] {
            assert!(!is_prime(number), "{number}");
        }
    }
}
