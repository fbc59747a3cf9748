//! `descriptors`: what the transcoder knows. A file is read here, so that a version of the configuration is one
//! content; whether it is a `FileDescriptorSet` is found out by those who compile it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{DescriptorFile, DescriptorSource};
use crate::reader::Value;
use crate::reload::{Fingerprint, hash};
use crate::report::Report;
use crate::schema::DESCRIPTOR;
use crate::yaml::Kind;

/// A descriptor set larger than this is some other file.
const MAX_FILE: u64 = 64 << 20;

/// More sources than this are a list that something has generated wrongly.
const MAX_SOURCES: usize = 256;

/// A source before it is read.
#[derive(PartialEq, Eq, Hash)]
enum Named {
    Builtin,
    File(PathBuf),
}

/// The sources; the files among them go to `fingerprint`, readable or not.
pub(crate) fn descriptors(
    value: &Value<'_>,
    base: &Path,
    fingerprint: &mut Fingerprint,
    report: &mut Report,
) -> Option<Vec<DescriptorSource>> {
    let items = value.items(report)?;
    if items.len() > MAX_SOURCES {
        return value.wrong(
            report,
            format!("this list has more than {MAX_SOURCES} items"),
        );
    }
    let mut seen = HashSet::new();
    let mut sources = Vec::new();
    for item in &items {
        let Some(named) = named(item, base, report) else {
            continue;
        };
        if seen.contains(&named) {
            item.problem(report, "this is listed already: remove it");
            continue;
        }
        match &named {
            Named::Builtin => sources.push(DescriptorSource::Builtin),
            Named::File(path) => {
                let read = read(path);
                let content = read.as_ref().ok().map(|content| hash(content));
                fingerprint.add(path.clone(), content);
                match read {
                    Ok(content) => sources.push(DescriptorSource::File(DescriptorFile {
                        path: path.clone(),
                        content,
                    })),
                    Err(why) => item.problem_below(report, "file", why),
                }
            }
        }
        seen.insert(named);
    }
    Some(sources)
}

/// `builtin`, or a map with one source.
fn named(value: &Value<'_>, base: &Path, report: &mut Report) -> Option<Named> {
    if let Kind::Scalar(_) = &value.node.kind {
        return match value.text(report)? {
            "builtin" => Some(Named::Builtin),
            "reflection" | "kv" => value.wrong(report, "not in this version: remove it"),
            text => {
                let why = format!(
                    "unknown word `{text}`: write `builtin`, or `file: {text}` if it is a file"
                );
                value.wrong(report, why)
            }
        };
    }
    let fields = value.fields(&DESCRIPTOR, report)?;
    if fields.is_empty() {
        let why = "it names no source: write `builtin` or `file: PATH`";
        return value.wrong(report, why);
    }
    let file = fields.get("file")?;
    Some(Named::File(base.join(file.text(report)?)))
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
