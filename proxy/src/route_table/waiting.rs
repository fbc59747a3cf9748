//! Routes whose services are described by nobody yet, because descriptors are still to be learnt. They are no mistake: their own
//! paths answer 503 until the descriptors are there, and everything else is served.

use std::sync::Arc;

use mesh_config::model::{DescriptorSource, PathMatch, Transcode};
use mesh_config::{Origin, Snapshot};
use transcode::Profile;

use super::Conditions;
use super::compile::{Compiler, Source};
use super::plan::{Planned, Waiting};
use super::words::{path_pattern, pattern};

impl Compiler<'_> {
    /// The services of a route that can be compiled, with their places in its list. Those that may still be learnt are noted.
    pub(super) fn known_services<'t>(
        &mut self,
        source: &Source<'_>,
        transcode: &'t Transcode,
        profile: &Profile,
    ) -> Vec<(usize, &'t str)> {
        let names = transcode
            .services
            .iter()
            .map(|service| service.as_str())
            .enumerate();
        let Some(unknown) = self.unknown.clone() else {
            return names.collect();
        };
        let schema = self.transcoder.schema().clone();
        let (known, missing): (Vec<_>, Vec<_>) =
            names.partition(|(_, name)| schema.service(name).is_some());
        if !missing.is_empty() {
            let missing: Vec<&str> = missing.into_iter().map(|(_, name)| name).collect();
            let what: Arc<str> =
                format!("the descriptors of {}: {unknown}", missing.join(", ")).into();
            self.wait(source, what, profile);
        }
        known
    }

    /// A row for what the route says of paths itself; a route that takes any path waits behind all others.
    fn wait(&mut self, source: &Source<'_>, what: Arc<str>, profile: &Profile) {
        self.waiting.push(Waiting {
            route: source.route.name.as_str().into(),
            what: what.clone(),
        });
        let path = &source.route.matches.path;
        let everything = match path {
            PathMatch::Any => true,
            PathMatch::Prefix(prefix) => prefix == "/",
            PathMatch::Exact(_) | PathMatch::Regex(_) => false,
        };
        if !everything {
            let errors = Arc::new(self.transcoder.errors(profile));
            let conditions = Conditions::of(source.route, None);
            let action = Planned::Waiting(what, errors);
            let row = source.planned(pattern(path), conditions, action);
            self.insert(source, path_pattern(path), false, row);
        }
    }
}

/// Where descriptors are still to be learnt from, in words.
pub(crate) fn unknown(snapshot: &Snapshot) -> Option<String> {
    let learnt = snapshot
        .descriptors
        .iter()
        .filter_map(DescriptorSource::learnt);
    let unknown = learnt.filter(|one| one.content.is_none());
    let words = unknown.map(|one| match &one.origin {
        Origin::Reflection(cluster) => format!("cluster {cluster} is to be asked by reflection"),
        Origin::Kv(key) => format!("Consul is to be asked for the key {key}"),
    });
    let words: Vec<String> = words.collect();
    (!words.is_empty()).then(|| words.join(", "))
}
