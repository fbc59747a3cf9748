//! `clusters[].endpoints`: where the backends of a cluster come from.

use std::collections::HashMap;
use std::num::NonZeroU32;

use super::consul;
use crate::model::{Address, Endpoint, Endpoints};
use crate::reader::Value;
use crate::report::Report;
use crate::schema::{ENDPOINT, ENDPOINTS};
use crate::yaml::Kind;

pub(crate) fn endpoints(value: &Value<'_>, report: &mut Report) -> Option<Endpoints> {
    let fields = value.fields(&ENDPOINTS, report)?;
    if fields.is_empty() {
        let why = "it names no endpoints: write `static: [\"host:port\"]`, or `consul: { service: NAME }`";
        return value.wrong(report, why);
    }
    match (fields.get("static"), fields.get("consul")) {
        (Some(_), Some(_)) => value.wrong(
            report,
            "endpoints come either from `static` or from `consul`: remove one",
        ),
        (Some(fixed), None) => list(&fixed, report).map(Endpoints::Static),
        (None, found) => consul::endpoints(&found?, report).map(Endpoints::Consul),
    }
}

fn list(value: &Value<'_>, report: &mut Report) -> Option<Vec<Endpoint>> {
    let mut lines: HashMap<Address, u32> = HashMap::new();
    let mut endpoints = Some(Vec::new());
    for item in value.items(report)? {
        let endpoint = endpoint(&item, report);
        if let Some(endpoint) = &endpoint
            && let Some(first) = lines.insert(endpoint.address.clone(), item.line())
        {
            let why = format!(
                "{} is already on line {first}: keep one, with a weight",
                endpoint.address
            );
            item.problem(report, why);
        }
        endpoints = endpoints.zip(endpoint).map(|(mut endpoints, endpoint)| {
            endpoints.push(endpoint);
            endpoints
        });
    }
    endpoints
}

/// `"host:port"`, or a map with a weight.
fn endpoint(value: &Value<'_>, report: &mut Report) -> Option<Endpoint> {
    if let Kind::Scalar(_) = &value.node.kind {
        let address = value.parsed(report, Address::parse)?;
        return Some(Endpoint {
            address,
            weight: NonZeroU32::MIN,
        });
    }
    let fields = value.fields(&ENDPOINT, report)?;
    let address = fields
        .require("address", report)
        .and_then(|value| value.parsed(report, Address::parse));
    let weight = fields
        .get("weight")
        .map_or(Some(NonZeroU32::MIN), |value| value.weight(report));
    Some(Endpoint {
        address: address?,
        weight: weight?,
    })
}
