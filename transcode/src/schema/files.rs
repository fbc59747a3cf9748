//! Descriptor sets to a list of files in which each comes once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use prost::Message as _;

use super::SchemaError;
use crate::descriptor::{FileDescriptorProto, FileDescriptorSet};

/// All files in order, each once.
pub(super) fn merge<'a>(
    sets: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<FileDescriptorProto>, SchemaError> {
    let mut files: Vec<FileDescriptorProto> = Vec::new();
    let mut by_name: HashMap<String, usize> = HashMap::new();
    for bytes in sets {
        let set = FileDescriptorSet::decode(bytes)
            .map_err(|error| SchemaError::NotADescriptorSet(error.to_string()))?;
        for file in set.file {
            match by_name.entry(file.name.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(files.len());
                    files.push(file);
                }
                Entry::Occupied(entry) => merge_file(&mut files[*entry.get()], file)?,
            }
        }
    }
    Ok(files)
}

/// Files that every compiler and library brings in a version of its own, each a superset of the one before.
fn is_common(name: &str) -> bool {
    const COMMON: [&str; 5] = [
        "buf/validate/",
        "google/protobuf/",
        "google/api/",
        "google/rpc/",
        "google/type/",
    ];
    COMMON.iter().any(|folder| name.starts_with(folder))
}

/// The same file again: the one with comments is kept.
fn merge_file(
    first: &mut FileDescriptorProto,
    mut second: FileDescriptorProto,
) -> Result<(), SchemaError> {
    let comments = (
        first.source_code_info.take(),
        second.source_code_info.take(),
    );
    if *first != second && !is_common(&first.name) {
        return Err(SchemaError::FileConflict(second.name));
    }
    first.source_code_info = comments.0.or(comments.1);
    Ok(())
}
