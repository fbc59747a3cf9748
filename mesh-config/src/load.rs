//! The way from a file to a snapshot: text, tree, sections, cross-references. All problems of one stage are
//! found before the next one is given up.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::centre::Version;
use crate::check;
use crate::env::Environment;
use crate::learnt::Sets;
use crate::model::{Admin, DescriptorSource, Overload, Place as Locality, Snapshot};
use crate::origins::Origins;
use crate::positions::Positions;
use crate::problem::{Problem, Problems};
use crate::reader::{Fields, Value};
use crate::reload::{Fingerprint, content, hash};
use crate::report::Report;
use crate::schema::ROOT;
use crate::section::{
    balancing, cluster, consul, descriptor, listener, overload, process, profile, route,
};
use crate::sources::{Given, KvKey, Place, Sources};
use crate::yaml::{self, Kind, MAX_TEXT, Node};

/// Reads, parses and checks a file. Relative paths in it start at its directory, `${NAME}` is looked up in the
/// environment of the process.
///
/// # Errors
/// Every mistake that is in it.
pub fn load(path: &Path) -> Result<Snapshot, Problems> {
    let sources = Sources {
        file: Some(path.to_owned()),
        ..Sources::default()
    };
    load_from(&sources, None)
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
    let text = Text {
        source: Arc::from(source_name),
        text,
    };
    Reading::of_layers(&Layers {
        file: Some(text),
        kv: None,
        base_dir,
        given: &Given::default(),
        learnt: &Sets::new(),
        environment,
    })
    .snapshot
}

/// Reads, parses and checks what several sources come to.
///
/// # Errors
/// Every mistake that is in it.
pub fn load_from(sources: &Sources, version: Option<&Version>) -> Result<Snapshot, Problems> {
    Reading::of(sources, version, &sources.learnt.good()).snapshot
}

/// The key of Consul's KV store that these sources name, as far as they can be read.
#[must_use]
pub fn place(sources: &Sources) -> Option<Place> {
    Reading::of(sources, None, &Sets::new()).place
}

/// The directory that the file of these sources says the gateway's state is kept in, as far as it can be read.
#[must_use]
pub fn data_directory(sources: &Sources) -> Option<PathBuf> {
    Reading::of(sources, None, &Sets::new()).data
}

/// What came of reading a text, and what was read, even if nothing came of it.
pub(crate) struct Reading {
    pub(crate) snapshot: Result<Snapshot, Problems>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) place: Option<Place>,
    /// The directory that the file says.
    data: Option<PathBuf>,
}

/// What a configuration is made of.
struct Layers<'a> {
    file: Option<Text<'a>>,
    /// Its top-level keys replace the file's.
    kv: Option<Text<'a>>,
    base_dir: &'a Path,
    given: &'a Given,
    learnt: &'a Sets,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

struct Text<'a> {
    source: Arc<str>,
    text: &'a str,
}

impl Reading {
    /// Reads the file of the sources, and puts a version of their key over it. `learnt`: what is known of descriptors that
    /// are learnt at run time.
    pub(crate) fn of(sources: &Sources, version: Option<&Version>, learnt: &Sets) -> Self {
        let refused = |problems: Problems| Self {
            snapshot: Err(problems),
            fingerprint: Fingerprint::default(),
            place: None,
            data: None,
        };
        let file = match sources.file.as_deref().map(|path| (path, read(path))) {
            None => None,
            Some((path, Ok(text))) => Some((path, text)),
            Some((path, Err(problems))) => {
                // What is there may be readable and still no text: then its bytes are what was read.
                let mut refused = refused(problems);
                refused.fingerprint.add(path.to_owned(), content(path));
                return refused;
            }
        };
        let kv = match version.map(text_of).transpose() {
            Ok(kv) => kv,
            Err(problem) => return refused(Problems::from(problem)),
        };
        let mut reading = Self::of_layers(&Layers {
            file: file.as_ref().map(|(path, text)| Text {
                source: Arc::from(path.display().to_string()),
                text,
            }),
            kv,
            base_dir: file
                .as_ref()
                .map_or(Path::new("."), |(path, _)| base_dir(path)),
            given: &sources.given,
            learnt,
            environment: &|name| std::env::var(name).ok(),
        });
        if file.is_none() && version.is_none() {
            reading.snapshot = Err(Problems::from(nothing(&sources.given)));
        }
        if let Some((path, text)) = file {
            // A pipe is read once; it is no file that could change.
            let content = path.is_file().then(|| hash(text.as_bytes()));
            reading.fingerprint.add(path.to_owned(), content);
        }
        if let (Ok(snapshot), Some(version)) = (&mut reading.snapshot, version) {
            let index = version.index();
            snapshot.source = Arc::from(format!("{} (ModifyIndex {index})", snapshot.source));
        }
        reading
    }

    fn of_layers(layers: &Layers<'_>) -> Self {
        let mut report = Report::new(Origins::one(Arc::from("")));
        let mut fingerprint = Fingerprint::default();
        let mut tree = |text: &Text<'_>| {
            report.turn_to(Origins::one(Arc::clone(&text.source)));
            yaml::parse(text.text, Environment(layers.environment), &mut report)
        };
        let trees = (
            layers.file.as_ref().map(&mut tree),
            layers.kv.as_ref().map(&mut tree),
        );
        let base = trees.0.as_ref().and_then(Option::as_ref);
        let place = consul::place(base, (layers.base_dir, layers.given));
        let data = process::data_of(base, layers.base_dir);
        if let (Some(Some(tree)), Some(kv)) = (&trees.1, &layers.kv) {
            report.turn_to(Origins::one(Arc::clone(&kv.source)));
            process::refuse_data(tree, &mut report);
        }
        let merged = match trees {
            // What cannot be parsed at all has been reported.
            (Some(None), _) | (_, Some(None)) => None,
            (file, kv) => layers.merged(file.flatten(), kv.flatten()),
        };
        let snapshot = merged.and_then(|(origins, tree)| {
            report.turn_to(origins.clone());
            let positions = Positions::new(origins, tree);
            let mut snapshot = sections(positions, layers, &mut fingerprint, &mut report)?;
            snapshot.version = layers.version(&fingerprint, &snapshot.descriptors);
            snapshot.source = layers.source();
            Some(snapshot)
        });
        Self {
            snapshot: report.finish(snapshot),
            fingerprint,
            place,
            data,
        }
    }
}

/// The text of a key.
fn text_of(version: &Version) -> Result<Text<'_>, Problem> {
    let source: Arc<str> = Arc::from(version.source());
    match version.text() {
        Ok(text) => Ok(Text { source, text }),
        Err(line) => Err(Problem {
            file: source,
            line,
            path: String::new(),
            why: "it is not UTF-8 text".to_owned(),
        }),
    }
}

/// That there is neither a file nor a key.
fn nothing(given: &Given) -> Problem {
    let key = given.key.as_ref();
    Problem {
        file: Arc::from(key.map_or("configuration".to_owned(), KvKey::source)),
        line: 0,
        path: String::new(),
        why: "there is no such key in Consul, and no file either".to_owned(),
    }
}

impl Layers<'_> {
    /// One tree: the file's, with the top-level keys of the other one in the place of its own. `None`: there is neither.
    fn merged(&self, file: Option<Node>, kv: Option<Node>) -> Option<(Origins, Node)> {
        let origins =
            |text: &Option<Text<'_>>| Some(Origins::one(Arc::clone(&text.as_ref()?.source)));
        // An empty file has nothing to be replaced.
        let file = file.filter(|file| kv.is_none() || !file.is_null());
        let (mut file, mut kv) = match (file, kv) {
            (Some(file), Some(kv)) => (file, kv),
            (Some(file), None) => return Some((origins(&self.file)?, file)),
            (None, Some(kv)) => return Some((origins(&self.kv)?, kv)),
            (None, None) => return None,
        };
        let (Kind::Map(kept), Kind::Map(over)) = (&mut file.kind, &mut kv.kind) else {
            // What is no map is wrong, and is told so when it is read.
            return Some(match file.kind {
                Kind::Map(_) => (origins(&self.kv)?, kv),
                _ => (origins(&self.file)?, file),
            });
        };
        let keys: BTreeSet<String> = over.iter().map(|entry| entry.key.clone()).collect();
        kept.retain(|entry| !keys.contains(&entry.key));
        kept.append(over);
        let source = Arc::clone(&self.kv.as_ref()?.source);
        Some((origins(&self.file)?.with(source, keys), file))
    }

    /// Twelve hexadecimal digits that change with the texts, a descriptor file or what has been learnt.
    fn version(&self, files: &Fingerprint, descriptors: &[DescriptorSource]) -> String {
        let texts = [&self.file, &self.kv];
        let mut read: Vec<u8> = texts
            .into_iter()
            .flatten()
            .flat_map(|text| hash(text.text.as_bytes()))
            .collect();
        read.extend(files.contents().flatten().flatten());
        let learnt = descriptors.iter().filter_map(DescriptorSource::learnt);
        read.extend(learnt.flat_map(|learnt| hash(learnt.content.as_deref().unwrap_or_default())));
        hash(&read)
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    fn source(&self) -> Arc<str> {
        let sources = [&self.file, &self.kv].into_iter().flatten();
        let sources: Vec<&str> = sources.map(|text| &*text.source).collect();
        Arc::from(sources.join(", "))
    }
}

/// Reads all sections, then what they say about each other.
fn sections(
    positions: Positions,
    layers: &Layers<'_>,
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
    let process = process::process(&fields, layers.base_dir, report);
    let (consul, announced) = consul::consul(&fields, (layers.base_dir, layers.given), report);
    let overload = fields.or("overload", Overload::default(), report, overload::overload);
    let profiles = fields.get("profiles");
    let profiles = profiles.map(|value| profile::profiles(&value, report));
    let asks_consul = fields.has("consul") || layers.given.consul.is_some();
    let clusters = clusters(&fields, asks_consul, report);
    let is_known = consul.as_ref().is_none_or(Option::is_some);
    let asked = (clusters.as_slice(), is_known);
    let descriptors = descriptors(&fields, layers, asked, fingerprint, report);
    let breaking_changes = fields.read("breaking_changes", report, descriptor::breaking_changes);
    let routes = fields.require("routes", report);
    let routes = routes.map(|value| route::routes(&value, report));
    let (profiles, routes) = (profiles.unwrap_or_default(), routes.unwrap_or_default());

    check::addresses(
        &listeners,
        admin.map(|admin| admin.address),
        &|path| positions.line(path),
        report,
    );
    let known = check::Known::new(&clusters, &profiles, &listeners);
    routes.iter().for_each(|route| known.check(route, report));

    Some(Snapshot {
        version: String::new(),
        source: Arc::from(""),
        listeners: listeners
            .into_iter()
            .map(|declared| declared.listener)
            .collect::<Option<_>>()?,
        admin: admin?,
        threads: process.threads,
        log: process.log,
        data: process.data,
        drain_timeout: process.drain_timeout,
        services: process.services,
        overload,
        consul: consul?,
        announced,
        clusters: clusters
            .into_iter()
            .map(|declared| declared.cluster.map(Arc::new))
            .collect::<Option<_>>()?,
        routes: routes
            .into_iter()
            .map(|declared| declared.route.map(Arc::new))
            .collect::<Option<_>>()?,
        descriptors: descriptors?,
        breaking_changes: breaking_changes.unwrap_or_default(),
        profiles,
        positions: positions.clone(),
    })
}

/// The sources of descriptors, once it is known whom they can ask: which clusters, and whether there is a Consul.
fn descriptors(
    root: &Fields<'_>,
    layers: &Layers<'_>,
    (clusters, consul): (&[cluster::Declared], bool),
    fingerprint: &mut Fingerprint,
    report: &mut Report,
) -> Option<Vec<DescriptorSource>> {
    let Some(value) = root.get("descriptors") else {
        return Some(vec![DescriptorSource::Builtin]);
    };
    let (base, learnt) = (layers.base_dir, layers.learnt);
    let sources = descriptor::descriptors(&value, base, learnt, fingerprint, report)?;
    descriptor::check(&value, &sources, clusters, consul, report);
    Some(sources)
}

/// The clusters, and where the gateway is that prefers endpoints near it.
fn clusters(root: &Fields<'_>, asks_consul: bool, report: &mut Report) -> Vec<cluster::Declared> {
    let place = root.or("locality", Locality::default(), report, balancing::place);
    let Some(value) = root.require("clusters", report) else {
        return Vec::new();
    };
    balancing::refuse_nowhere(&value, &place, asks_consul, report);
    cluster::clusters(&value, &place, report)
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
