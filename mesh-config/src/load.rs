//! The way from a file to a snapshot: text, tree, sections, cross-references. All problems of one stage are
//! found before the next one is given up.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::check;
use crate::env::Environment;
use crate::model::{Admin, DescriptorSource, Overload, Snapshot};
use crate::positions::Positions;
use crate::problem::{Problem, Problems};
use crate::reader::Value;
use crate::reload::{Fingerprint, content, hash};
use crate::report::Report;
use crate::schema::ROOT;
use crate::section::{cluster, consul, descriptor, listener, overload, profile, route};
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
    Reading::of(text, base_dir, source_name, environment).snapshot
}

/// What came of reading a text, and what was read, even if nothing came of it.
pub(crate) struct Reading {
    pub(crate) snapshot: Result<Snapshot, Problems>,
    pub(crate) fingerprint: Fingerprint,
}

impl Reading {
    pub(crate) fn of_file(path: &Path) -> Self {
        let text = match read(path) {
            Ok(text) => text,
            Err(problems) => {
                // What is there may be readable and still no text: then its bytes are what was read.
                let mut fingerprint = Fingerprint::default();
                fingerprint.add(path.to_owned(), content(path));
                return Self {
                    snapshot: Err(problems),
                    fingerprint,
                };
            }
        };
        let environment = |name: &str| std::env::var(name).ok();
        let source_name = path.display().to_string();
        let mut reading = Self::of(&text, base_dir(path), &source_name, &environment);
        // A pipe is read once; it is no file that could change.
        let content = path.is_file().then(|| hash(text.as_bytes()));
        reading.fingerprint.add(path.to_owned(), content);
        reading
    }

    pub(crate) fn of(
        text: &str,
        base_dir: &Path,
        source_name: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let source: Arc<str> = Arc::from(source_name);
        let mut report = Report::new(Arc::clone(&source));
        let mut fingerprint = Fingerprint::default();
        let tree = yaml::parse(text, Environment(environment), &mut report);
        let snapshot = tree.and_then(|tree| {
            let positions = Positions::new(Arc::clone(&source), tree);
            let mut snapshot =
                sections(positions, source, base_dir, &mut fingerprint, &mut report)?;
            snapshot.version = version(text, &fingerprint);
            Some(snapshot)
        });
        Self {
            snapshot: report.finish(snapshot),
            fingerprint,
        }
    }
}

/// Reads all sections, then what they say about each other.
fn sections(
    positions: Positions,
    source: Arc<str>,
    base_dir: &Path,
    fingerprint: &mut Fingerprint,
    report: &mut Report,
) -> Option<Snapshot> {
    let fields = Value::root(positions.root()).fields(&ROOT, report)?;
    let listeners = match fields.get("listeners") {
        Some(value) => listener::listeners(&value, report),
        None => listener::default_listeners(),
    };
    let admin = match fields.get("admin") {
        Some(value) => listener::admin(&value, report),
        None => Some(Admin::default()),
    };
    let threads = fields.read("threads", report, listener::threads);
    let descriptors = match fields.get("descriptors") {
        Some(value) => descriptor::descriptors(&value, base_dir, fingerprint, report),
        None => Some(vec![DescriptorSource::Builtin]),
    };
    let consul = consul::consul(&fields, report);
    let overload = fields.or("overload", Overload::default(), report, overload::overload);
    let profiles = fields.get("profiles");
    let profiles = profiles.map(|value| profile::profiles(&value, report));
    let clusters = fields.require("clusters", report);
    let clusters = clusters.map(|value| cluster::clusters(&value, report));
    let routes = fields.require("routes", report);
    let routes = routes.map(|value| route::routes(&value, report));
    let (profiles, clusters, routes) = (
        profiles.unwrap_or_default(),
        clusters.unwrap_or_default(),
        routes.unwrap_or_default(),
    );

    let admin_address = admin.map(|admin| admin.address);
    check::addresses(
        &listeners,
        admin_address,
        &|path| positions.line(path),
        report,
    );
    let known = check::Known::new(&clusters, &profiles, &listeners);
    routes.iter().for_each(|route| known.check(route, report));

    Some(Snapshot {
        version: String::new(),
        source,
        listeners: listeners
            .into_iter()
            .map(|declared| declared.listener)
            .collect::<Option<_>>()?,
        admin: admin?,
        threads,
        overload,
        consul: consul?,
        clusters: clusters
            .into_iter()
            .map(|declared| declared.cluster.map(Arc::new))
            .collect::<Option<_>>()?,
        routes: routes
            .into_iter()
            .map(|declared| declared.route.map(Arc::new))
            .collect::<Option<_>>()?,
        descriptors: descriptors?,
        profiles,
        positions: positions.clone(),
    })
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
fn version(text: &str, descriptors: &Fingerprint) -> String {
    let mut read = hash(text.as_bytes()).to_vec();
    read.extend(descriptors.contents().flatten().flatten());
    hash(&read)
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
