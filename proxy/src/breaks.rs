//! What new descriptors break for the callers of those in force: fields, methods and services (`transcode::breaks`), and paths that
//! do no longer lead where they led. What becomes of them is the configuration's choice (`breaking_changes`).
//!
//! A route that is taken out of the file is no break of descriptors: whoever writes `routes` means it. Where two files are held
//! against each other, its paths are lost all the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_config::model::{BreakingChanges, Route};
use mesh_config::{Problem, Problems, Snapshot};
use parking_lot::Mutex;
use serde_json::{Value, json};
use transcode::{Binding, Schema};

use crate::route_table::{self, Plan};

/// The latest version that broke something for its callers, and was applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broken(Arc<Mutex<Option<Breaks>>>);

#[derive(Debug)]
struct Breaks {
    version: String,
    list: Vec<String>,
}

impl Broken {
    /// What `/config` shows.
    pub(crate) fn json(&self) -> Value {
        match &*self.0.lock() {
            Some(Breaks { version, list }) => json!({ "version": version, "breaks": list }),
            None => Value::Null,
        }
    }

    /// Looks at a plan that is to take the place of what is in force.
    ///
    /// # Errors
    /// Every break, if they are to be refused.
    pub(crate) fn judge(&self, live: &Arc<Snapshot>, new: &Plan) -> Result<(), Problems> {
        let choice = new.snapshot.breaking_changes;
        let same = live.descriptors == new.snapshot.descriptors;
        if same || choice == BreakingChanges::Allow {
            return Ok(());
        }
        // What is in force has been compiled before.
        let Ok(old) = route_table::compile(live) else {
            return Ok(());
        };
        let found = between(&old, new, &routed(&new.snapshot));
        if found.is_empty() {
            return Ok(());
        }
        if choice == BreakingChanges::Refuse {
            let positions = &new.snapshot.positions;
            let problem =
                |one: &String| positions.problem("descriptors", format!("breaks callers: {one}"));
            let problems: Vec<Problem> = found.iter().map(problem).collect();
            return Err(Problems::new(problems));
        }
        let version = new.snapshot.version.clone();
        for one in &found {
            tracing::warn!(%version, "breaks callers: {one}");
        }
        *self.0.lock() = Some(Breaks {
            version,
            list: found,
        });
        Ok(())
    }
}

/// The breaks between two files, the paths of routes that are gone included.
pub(crate) fn of_files(old: &Plan, new: &Plan) -> Vec<String> {
    let services = bindings(old).map(|binding| binding.service.as_str());
    between(old, new, &services.collect())
}

/// The breaks for callers of a file's services as older descriptors had them.
pub(crate) fn of_descriptors(old: Schema, new: &Plan) -> Result<Vec<String>, Problems> {
    let old = route_table::compile_as_of(&new.snapshot, old)?;
    Ok(between(&old, new, &routed(&new.snapshot)))
}

/// The services that routes name.
fn routed(snapshot: &Snapshot) -> BTreeSet<&str> {
    let transcoded = snapshot
        .routes
        .iter()
        .filter_map(|route: &Arc<Route>| route.transcode());
    let services = transcoded.flat_map(|transcode| &transcode.services);
    services.map(|service| service.as_str()).collect()
}

fn bindings(plan: &Plan) -> impl Iterator<Item = &Binding> {
    plan.rows.iter().filter_map(|row| row.action.binding())
}

/// The breaks for callers of some services.
fn between(old: &Plan, new: &Plan, services: &BTreeSet<&str>) -> Vec<String> {
    let served: BTreeSet<&str> = bindings(old)
        .map(|binding| binding.service.as_str())
        .filter(|service| services.contains(service))
        .collect();
    let mut found = transcode::breaks(&old.schema, &new.schema, &served);
    let now: Vec<(String, &Binding)> = bindings(new).map(|one| (one.pattern(), one)).collect();
    for old in bindings(old).filter(|old| served.contains(old.service.as_str())) {
        let pattern = old.pattern();
        let alike = now.iter().filter(|(known, _)| *known == pattern);
        // Routes may share a path and differ in hosts or headers: one of them is enough.
        let breaks = alike.map(|(_, new)| new.breaks(old)).min_by_key(Vec::len);
        let gone = || {
            vec![format!(
                "{old}: the path does not lead to {} any more",
                old.full_name()
            )]
        };
        for one in breaks.unwrap_or_else(gone) {
            if !found.contains(&one) {
                found.push(one);
            }
        }
    }
    found
}
