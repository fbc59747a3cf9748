//! `profiles`: further response shapes by name. Their language is the transcoder's, so they are kept as written.

use std::collections::BTreeMap;

use crate::model::ProfileName;
use crate::reader::Value;
use crate::report::Report;
use crate::yaml::Kind;

/// Profiles that need no definition.
pub(crate) const BUILTIN: [&str; 2] = ["standard", "phase1"];

pub(crate) fn profiles(
    value: &Value<'_>,
    report: &mut Report,
) -> BTreeMap<ProfileName, serde_json::Value> {
    let mut profiles = BTreeMap::new();
    for (key, value) in value.entries(report).unwrap_or_default() {
        let name = match ProfileName::parse(key) {
            Ok(name) => name,
            Err(why) => {
                value.problem(report, why);
                continue;
            }
        };
        if BUILTIN.contains(&key) {
            let why = format!("`{key}` is built in and cannot be changed: choose another name");
            value.problem(report, why);
            continue;
        }
        if !matches!(value.node.kind, Kind::Map(_)) {
            let kind = value.node.kind_name();
            let why = "write a map, in the language that `highpress-proxy profile phase1` prints";
            value.problem(report, format!("this is {kind}: {why}"));
        }
        profiles.insert(name, value.node.to_json());
    }
    profiles
}
