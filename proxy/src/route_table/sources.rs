//! From the sources of descriptors to one schema. Refused: a source that does not hold together by itself, sources that
//! disagree, and rules for methods that none of them has.

use std::sync::LazyLock;

use mesh_config::model::DescriptorSource;
use mesh_config::{Problem, Problems, Snapshot};
use transcode::Schema;

use super::waiting;

/// What details of errors are made of. Backends send them whether or not a `.proto` file of theirs imports them.
static ERROR_DETAILS: LazyLock<Vec<u8>> = LazyLock::new(proto::error_details);

/// The schema of all descriptor sources together; each is read by itself first, so that a broken one is named.
pub(super) fn schema(snapshot: &Snapshot) -> Result<Schema, Problems> {
    let bytes = |source| match source {
        &DescriptorSource::Builtin => proto::DESCRIPTOR_SET,
        // What is not known yet has nothing in it.
        other => other.content().unwrap_or_default(),
    };
    let alone = snapshot
        .descriptors
        .iter()
        .enumerate()
        .filter_map(|(index, source)| {
            let error = Schema::from_descriptor_sets([bytes(source)]).err()?;
            Some(
                snapshot
                    .positions
                    .problem(format!("descriptors[{index}]"), error.to_string()),
            )
        });
    let problems: Vec<Problem> = alone.collect();
    if !problems.is_empty() {
        return Err(Problems::new(problems));
    }
    let sets = || snapshot.descriptors.iter().map(bytes);
    let known = sets().chain([ERROR_DETAILS.as_slice()]);
    // Sources that have the same types in files of other names do without ours.
    let schema = Schema::from_descriptor_sets(known)
        .or_else(|_| Schema::from_descriptor_sets(sets()))
        .map_err(|error| {
            let at = &snapshot.positions;
            Problems::from(at.problem("descriptors", error.to_string()))
        })?;
    rules(snapshot, schema, waiting::unknown(snapshot).is_some())
}

/// Other descriptors with the rules of a snapshot, as far as they have the methods.
pub(super) fn with_rules(snapshot: &Snapshot, schema: Schema) -> Result<Schema, Problems> {
    rules(snapshot, schema, true)
}

/// Takes the rules of service configurations, in their order.
fn rules(snapshot: &Snapshot, mut schema: Schema, growing: bool) -> Result<Schema, Problems> {
    let configs = snapshot.descriptors.iter();
    let mut problems = Vec::new();
    for config in configs.filter_map(DescriptorSource::service_config) {
        let faults = schema.take_rules(&config.value, growing);
        let faults = faults.err().unwrap_or_default().into_iter();
        problems.extend(faults.map(|fault| config.positions.problem(fault.path, fault.why)));
    }
    match problems.is_empty() {
        true => Ok(schema),
        false => Err(Problems::new(problems)),
    }
}
