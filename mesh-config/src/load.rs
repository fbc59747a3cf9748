//! The way from a file to a snapshot: text, tree, sections, cross-references. All problems of one stage are
//! found before the next one is given up.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::check;
use crate::env::Environment;
use crate::model::{Admin, DescriptorSource, Listener, Snapshot};
use crate::positions::Positions;
use crate::problem::{Problem, Problems};
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::ROOT;
use crate::section::{cluster, descriptor, listener, profile, route};
use crate::yaml::{self, MAX_TEXT};

/// Reads, parses and checks a file. Relative paths in it start at its directory, `${NAME}` is looked up in the
/// environment of the process.
///
/// # Errors
/// Every mistake that is in it.
pub fn load(path: &Path) -> Result<Snapshot, Problems> {
    let text = read(path)?;
    parse(&text, base_dir(path), &path.display().to_string())
}

/// Parses and checks a text. Relative paths in it start at `base_dir`; `source_name` is what problems call it.
///
/// # Errors
/// Every mistake that is in it.
pub fn parse(text: &str, base_dir: &Path, source_name: &str) -> Result<Snapshot, Problems> {
    parse_with(text, base_dir, source_name, &|name| {
        std::env::var(name).ok()
    })
}

/// [`parse`] with an environment of the caller's.
///
/// # Errors
/// Every mistake that is in it.
pub fn parse_with(
    text: &str,
    base_dir: &Path,
    source_name: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Snapshot, Problems> {
    let source: Arc<str> = Arc::from(source_name);
    let mut report = Report::new(Arc::clone(&source));
    let tree = yaml::parse(text, Environment(environment), &mut report);
    let snapshot = tree.and_then(|tree| {
        let positions = Positions::new(Arc::clone(&source), tree);
        let mut snapshot = sections(positions, source, base_dir, &mut Vec::new(), &mut report)?;
        snapshot.version = version(text, &snapshot.descriptors);
        Some(snapshot)
    });
    report.finish(snapshot)
}

/// Reads all sections, then what they say about each other.
fn sections(
    positions: Positions,
    source: Arc<str>,
    base_dir: &Path,
    files: &mut Vec<PathBuf>,
    report: &mut Report,
) -> Option<Snapshot> {
    let root = Value::root(positions.root());
    let fields = root.fields(&ROOT, report)?;
    let (listeners, admin, threads) = boot(&fields, report);
    let descriptors = match fields.get("descriptors") {
        Some(value) => descriptor::descriptors(&value, base_dir, files, report).unwrap_or_default(),
        None => vec![DescriptorSource::Builtin],
    };
    let profiles = fields
        .get("profiles")
        .map(|value| profile::profiles(&value, report))
        .unwrap_or_default();
    let clusters = fields
        .require("clusters", report)
        .map(|value| cluster::clusters(&value, report));
    let routes = fields
        .require("routes", report)
        .map(|value| route::routes(&value, report));
    let (clusters, routes) = (clusters.unwrap_or_default(), routes.unwrap_or_default());

    check::addresses(&listeners, &admin, &|path| positions.line(path), report);
    check::routes(&routes, &clusters, &profiles, &listeners, report);

    let routes = routes
        .into_iter()
        .map(|declared| Arc::new(declared.route))
        .collect();
    let clusters: Option<Vec<_>> = clusters
        .into_iter()
        .map(|declared| declared.cluster.map(Arc::new))
        .collect();
    Some(Snapshot {
        version: String::new(),
        source,
        listeners,
        admin,
        threads,
        clusters: clusters?,
        routes,
        descriptors,
        profiles,
        positions: positions.clone(),
    })
}

fn boot(fields: &Fields<'_>, report: &mut Report) -> (Vec<Listener>, Admin, Option<NonZeroUsize>) {
    let listeners = match fields.get("listeners") {
        Some(value) => listener::listeners(&value, report).unwrap_or_default(),
        None => vec![Listener::default()],
    };
    let admin = fields
        .get("admin")
        .and_then(|value| listener::admin(&value, report))
        .unwrap_or_default();
    let threads = fields
        .get("threads")
        .and_then(|value| listener::threads(&value, report));
    (listeners, admin, threads)
}

/// The text of a configuration file.
pub(crate) fn read(path: &Path) -> Result<String, Problems> {
    let problem = |why: String| {
        let file = Arc::from(path.display().to_string());
        Problems::from(Problem {
            file,
            line: 0,
            path: String::new(),
            why,
        })
    };
    let metadata =
        fs::metadata(path).map_err(|error| problem(format!("cannot read it: {error}")))?;
    if metadata.is_dir() {
        return Err(problem("it is a directory: name the file in it".to_owned()));
    }
    if metadata.len() > MAX_TEXT as u64 {
        return Err(problem(format!("it is longer than {} MiB", MAX_TEXT >> 20)));
    }
    let bytes = fs::read(path).map_err(|error| problem(format!("cannot read it: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        problem(format!("it is not UTF-8 text (line {line})"))
    })
}

/// Where relative paths of a configuration file start.
pub(crate) fn base_dir(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Twelve hexadecimal digits that change with the text or a descriptor file.
fn version(text: &str, descriptors: &[DescriptorSource]) -> String {
    let mut hash = Sha256::new();
    hash.update(text);
    for source in descriptors {
        if let DescriptorSource::File(file) = source {
            hash.update(Sha256::digest(file.content()));
        }
    }
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
