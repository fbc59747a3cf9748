//! `check --against OLD FILE`: what a configuration breaks for the callers of an older one, or of older descriptors.

use std::path::{Path, PathBuf};

use mesh_config::{Problems, problems_text};
use transcode::Schema;

use super::{Failure, read};
use crate::breaks;

/// Fails with the list of breaks, one a line, whatever the file says of them: who asks wants to know.
pub(super) fn check(old: &Path, files: &[PathBuf]) -> Result<(), Failure> {
    let usage = |problems: Problems| Failure::Usage(problems_text(&problems));
    let [file] = files else {
        return Err(Failure::Usage("with --against write one FILE".to_owned()));
    };
    let new = read(file).map_err(usage)?;
    let found = match is_configuration(old) {
        true => breaks::of_files(&read(old).map_err(usage)?, &new),
        false => breaks::of_descriptors(descriptors(old)?, &new).map_err(usage)?,
    };
    if found.is_empty() {
        return Ok(());
    }
    let lines = found
        .iter()
        .map(|one| format!("{}: breaks callers: {one}", file.display()));
    Err(Failure::Usage(lines.collect::<Vec<_>>().join("\n")))
}

/// By its name: descriptors may be called anything else.
fn is_configuration(file: &Path) -> bool {
    let ending = file.extension().and_then(|ending| ending.to_str());
    matches!(ending, Some("yaml" | "yml" | "json"))
}

fn descriptors(file: &Path) -> Result<Schema, Failure> {
    let wrong = |why: String| Failure::Usage(format!("{}: {why}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| wrong(format!("cannot read it: {error}")))?;
    Schema::from_descriptor_sets([&bytes[..]]).map_err(|error| wrong(error.to_string()))
}
