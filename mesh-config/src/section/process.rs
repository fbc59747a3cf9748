//! What concerns the process rather than its requests: `threads`, `log`, `data`, `drain_timeout`, and `services` of a process that has
//! all of the mesh in it.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::listener::bind_address;
use crate::model::{Service, Services, Timeout};
use crate::origins::Origins;
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::{SERVICE, SERVICES};
use crate::yaml::Node;

/// More worker threads than this are a mistyped number.
const MAX_THREADS: usize = 1024;

/// All of it.
pub(crate) struct Process {
    pub(crate) threads: Option<NonZeroUsize>,
    pub(crate) log: Option<String>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) drain_timeout: Option<Timeout>,
    pub(crate) services: Services,
}

pub(crate) fn process(root: &Fields<'_>, base_dir: &Path, report: &mut Report) -> Process {
    Process {
        threads: root.read("threads", report, threads),
        log: root.read("log", report, Value::text).map(str::to_owned),
        data: root.read("data", report, |value, report| {
            data(value, base_dir, report)
        }),
        drain_timeout: root.read("drain_timeout", report, Value::timeout),
        services: root.or("services", Services::default(), report, services),
    }
}

fn threads(value: &Value<'_>, report: &mut Report) -> Option<NonZeroUsize> {
    let threads = value.positive(report)?;
    if threads.get() > MAX_THREADS {
        return value.wrong(
            report,
            format!("{threads} is too large: at most {MAX_THREADS}"),
        );
    }
    Some(threads)
}

/// A directory, relative to that of the file.
fn data(value: &Value<'_>, base_dir: &Path, report: &mut Report) -> Option<PathBuf> {
    Some(base_dir.join(value.text(report)?))
}

/// The directory that a file says, before anything else of it is read: what is wrong is reported when the whole is.
pub(crate) fn data_of(tree: Option<&Node>, base_dir: &Path) -> Option<PathBuf> {
    let mut unread = Report::new(Origins::one("".into()));
    let node = Value::root(tree?).find("data")?;
    let path = "data".to_owned();
    data(&Value { node, path }, base_dir, &mut unread)
}

/// What Consul holds is kept in that directory, so that it cannot say where it is.
pub(crate) fn refuse_data(tree: &Node, report: &mut Report) {
    if let Some(node) = Value::root(tree).find("data") {
        let why = "a key of Consul cannot say where it is kept: say it in the file, by --data or HIGHPRESS_DATA";
        report.add(node.line, "data", why.to_owned());
    }
}

fn services(value: &Value<'_>, report: &mut Report) -> Option<Services> {
    let fields = value.fields(&SERVICES, report)?;
    Some(Services {
        counter: fields.or("counter", Service::default(), report, service),
        analytics: fields.or("analytics", Service::default(), report, service),
    })
}

fn service(value: &Value<'_>, report: &mut Report) -> Option<Service> {
    let fields = value.fields(&SERVICE, report)?;
    let mut address = |key| {
        let value = fields.get(key)?;
        value.parsed(report, bind_address)
    };
    Some(Service {
        listen: address("listen"),
        admin: address("admin"),
    })
}
