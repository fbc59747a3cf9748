//! `descriptors`: what the transcoder knows. A file is read here, so that a version of the configuration is one
//! content; whether it is a `FileDescriptorSet` is found out by those who compile it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{DescriptorFile, DescriptorSource};
use crate::reader::Value;
use crate::report::Report;
use crate::schema::{Choices, DESCRIPTOR};
use crate::yaml::Kind;

/// A descriptor set larger than this is some other file.
const MAX_FILE: u64 = 64 << 20;

const WORDS: Choices<()> = &[("builtin", Some(()))];

/// The sources, and the paths of all files among them, readable or not.
pub(crate) fn descriptors(
    value: &Value<'_>,
    base: &Path,
    files: &mut Vec<PathBuf>,
    report: &mut Report,
) -> Option<Vec<DescriptorSource>> {
    let mut sources = Vec::new();
    for item in value.items(report)? {
        let Some(source) = descriptor(&item, base, files, report) else {
            continue;
        };
        if sources.contains(&source) {
            item.wrong::<()>(report, "this source is listed already: remove it");
        }
        sources.push(source);
    }
    Some(sources)
}

fn descriptor(
    value: &Value<'_>,
    base: &Path,
    files: &mut Vec<PathBuf>,
    report: &mut Report,
) -> Option<DescriptorSource> {
    if let Kind::Scalar(_) = &value.node.kind {
        value.choice(WORDS, report)?;
        return Some(DescriptorSource::Builtin);
    }
    let fields = value.fields(&DESCRIPTOR, report)?;
    if !fields.has("file") {
        if !fields.has("reflection") && !fields.has("kv") {
            return value.wrong(
                report,
                "it names no source: write `builtin` or `file: PATH`",
            );
        }
        return None;
    }
    let value = fields.get("file")?;
    let path = base.join(value.text(report)?);
    files.push(path.clone());
    match read(&path) {
        Ok(content) => Some(DescriptorSource::File(DescriptorFile { path, content })),
        Err(why) => value.wrong(report, why),
    }
}

fn read(path: &Path) -> Result<Arc<[u8]>, String> {
    let shown = path.display();
    let cannot = |error: std::io::Error| {
        format!(
            "cannot read {shown}: {error}; a relative path starts at the directory of this file"
        )
    };
    let metadata = fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(format!(
            "{shown} is larger than {} MiB: it cannot be a descriptor set",
            MAX_FILE >> 20
        ));
    }
    let content = fs::read(path).map_err(cannot)?;
    if content.is_empty() {
        return Err(format!(
            "{shown} is empty: it has to be a serialized FileDescriptorSet"
        ));
    }
    Ok(Arc::from(content))
}
