//! Variables of path templates that policies go by. Refused: one that no template of the route has, because all
//! requests would count as one; a template that lacks it is no mistake, as other methods have others.

use std::collections::BTreeSet;

use mesh_config::model::{HashOn, RateKey, Route};
use transcode::{Binding, Variable};

/// Where a route names a variable that it does not have, and what is wrong with that.
pub(super) fn unknown(route: &Route, bindings: &[Binding]) -> Vec<(String, String)> {
    let known: BTreeSet<String> = bindings
        .iter()
        .flat_map(|binding| binding.template.variables())
        .map(Variable::name)
        .collect();
    named(route)
        .into_iter()
        .filter(|(_, name)| !known.contains(*name))
        .map(|(path, name)| (path, why(name, &known)))
        .collect()
}

/// Paths of the configuration, and the variables there.
fn named(route: &Route) -> Vec<(String, &str)> {
    let hash = match &route.hash_on {
        Some(HashOn::Path(name)) => Some(("hash_on.path".to_owned(), name.as_str())),
        _ => None,
    };
    let keys = route.rate_limit.iter().flat_map(|limit| &limit.key);
    let keys = keys.enumerate().filter_map(|(index, key)| match key {
        RateKey::Path(name) => Some((format!("rate_limit.key[{index}]"), name.as_str())),
        RateKey::Address | RateKey::Header(_) => None,
    });
    hash.into_iter().chain(keys).collect()
}

fn why(name: &str, known: &BTreeSet<String>) -> String {
    if known.is_empty() {
        return format!("`{name}` is no variable: the paths of this route have none");
    }
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let known = known.join(", ");
    format!("`{name}` is no variable of the paths of this route (variables: {known})")
}
