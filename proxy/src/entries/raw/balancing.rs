//! `LoadBalancer` of a `service-resolver`.
//!
//! <https://developer.hashicorp.com/consul/docs/reference/config-entry/service-resolver#loadbalancer>

use std::num::NonZeroU32;

use mesh_config::model::{BalancingPolicy, HashOn, RingSize};

use super::fields::{At, Finds};
use crate::entries::hashing::{Balancing, HashPolicy, NewCookie};

pub(super) fn balancing(at: &At<'_>, finds: &mut Finds) -> Balancing {
    at.known(
        &[
            "Policy",
            "LeastRequestConfig",
            "RingHashConfig",
            "HashPolicies",
        ],
        finds,
    );
    let choices = at.get("LeastRequestConfig").and_then(|least| {
        least.known(&["ChoiceCount"], finds);
        number(&least, "ChoiceCount")
    });
    let ring = at.get("RingHashConfig").map(|ring| {
        ring.known(&["MinimumRingSize", "MaximumRingSize"], finds);
        RingSize {
            least: number(&ring, "MinimumRingSize"),
            most: number(&ring, "MaximumRingSize"),
        }
    });
    let policies = at.items("HashPolicies");
    Balancing {
        policy: policy(at, finds),
        choices,
        ring,
        hash: policies
            .iter()
            .filter_map(|one| hash_policy(one, finds))
            .collect(),
    }
}

fn policy(at: &At<'_>, finds: &mut Finds) -> Option<BalancingPolicy> {
    match at.text("Policy")? {
        "random" => Some(BalancingPolicy::Random),
        "round_robin" => Some(BalancingPolicy::RoundRobin),
        "least_request" => Some(BalancingPolicy::LeastRequest),
        "ring_hash" => Some(BalancingPolicy::RingHash),
        "maglev" => Some(BalancingPolicy::Maglev),
        _ => {
            if let Some(at) = at.get("Policy") {
                at.unsupported(finds);
            }
            None
        }
    }
}

/// Zero is nothing said; what is beyond 32 bits is as much as there can be.
fn number(at: &At<'_>, key: &str) -> Option<NonZeroU32> {
    let number = at.get(key)?.as_u64()?;
    NonZeroU32::new(u32::try_from(number).unwrap_or(u32::MAX))
}

fn hash_policy(at: &At<'_>, finds: &mut Finds) -> Option<HashPolicy> {
    at.known(
        &[
            "Field",
            "FieldValue",
            "CookieConfig",
            "SourceIP",
            "Terminal",
        ],
        finds,
    );
    let name = at.text("FieldValue");
    let on = match (at.text("Field"), name) {
        _ if at.is("SourceIP") => HashOn::Address,
        (Some("header"), Some(name)) => HashOn::Header(name.to_ascii_lowercase()),
        (Some("cookie"), Some(name)) => HashOn::Cookie(name.to_owned()),
        (Some("query_parameter"), Some(name)) => HashOn::Query(name.to_owned()),
        _ => {
            at.unsupported(finds);
            return None;
        }
    };
    Some(HashPolicy {
        on,
        terminal: at.is("Terminal"),
        gives: at
            .get("CookieConfig")
            .and_then(|cookie| new_cookie(&cookie, finds)),
    })
}

fn new_cookie(at: &At<'_>, finds: &mut Finds) -> Option<NewCookie> {
    at.known(&["Session", "TTL", "Path"], finds);
    let age = at.time("TTL", finds);
    // Without either, a cookie is only read.
    (age.is_some() || at.is("Session")).then(|| NewCookie {
        age,
        path: at.text("Path").map(str::to_owned),
    })
}
