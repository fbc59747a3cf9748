//! One endpoint asked for its schema by gRPC server reflection, `v1` and, where that is unknown, `v1alpha`: all its services, the
//! files that they are in, and what those import.
//!
//! Questions go in rounds, each one call whose requests are all sent before the answers are read, so that servers of every kind
//! are asked alike. A file that is imported but not given is left out: often only annotations need it, and if not, the
//! schema that comes of it is refused with the name that is missing. Refused here: answers without end, compressed answers
//! (nobody asked for them), files that are no descriptors.
//!
//! Spec: <https://github.com/grpc/grpc-proto/blob/master/grpc/reflection/v1/reflection.proto>

mod connection;
mod message;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use prost::Message as _;
use transcode::descriptor::FileDescriptorProto;

use self::connection::Connection;
use self::message::{Answer, Question};

/// Services that every server may have beside its own: they are not what a gateway is asked for.
pub(super) const INFRASTRUCTURE: &str = "grpc.";

const V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const V1_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
/// A server with more has gone wrong.
const MOST_SERVICES: usize = 10_000;
/// Imports of imports, round by round.
const MOST_ROUNDS: usize = 64;
/// `UNIMPLEMENTED`.
const UNIMPLEMENTED: u32 = 12;

/// Why an endpoint did not tell its schema.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Connection(String),
    #[error("gRPC status {code}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status { code: u32, message: String },
    #[error("{0}")]
    Nonsense(String),
    #[error("it has no reflection, neither grpc.reflection.v1 nor v1alpha")]
    NoReflection,
    #[error("it has no services beside those of gRPC itself")]
    NoServices,
}

/// Files by name, as the endpoint has them.
type Files = BTreeMap<String, Vec<u8>>;

/// The schema of an endpoint: a serialized `FileDescriptorSet` with the files in the order of their names.
pub(super) async fn ask(
    to: SocketAddr,
    name: &str,
    wanted: &BTreeSet<String>,
) -> Result<Vec<u8>, Failure> {
    let mut connection = Connection::open(to, name).await?;
    let (path, services) = services(&mut connection).await?;
    let mut services: Vec<String> = services
        .into_iter()
        .filter(|service| !service.starts_with(INFRASTRUCTURE) || wanted.contains(service))
        .collect();
    services.sort_unstable();
    services.dedup();
    if services.is_empty() {
        return Err(Failure::NoServices);
    }
    if services.len() > MOST_SERVICES {
        return Err(Failure::Nonsense(format!(
            "it has {} services",
            services.len()
        )));
    }
    let mut files = Files::new();
    let questions = services
        .iter()
        .map(|service| Question::of_symbol(service))
        .collect();
    let mut first_error = None;
    for answer in connection.round(path, questions).await? {
        first_error = take(answer, &mut files)?.or(first_error);
    }
    if let (true, Some(why)) = (files.is_empty(), first_error) {
        return Err(Failure::Nonsense(format!(
            "it lists services and describes none: {why}"
        )));
    }
    imports(&mut connection, path, &mut files).await?;
    Ok(set(&files))
}

/// The names of all services, and the path at which this endpoint is asked.
async fn services(connection: &mut Connection) -> Result<(&'static str, Vec<String>), Failure> {
    for path in [V1, V1_ALPHA] {
        match connection.round(path, vec![Question::services()]).await {
            Ok(answers) => {
                let lists = answers.into_iter().filter_map(Answer::services);
                return Ok((path, lists.flatten().collect()));
            }
            Err(Failure::Status {
                code: UNIMPLEMENTED,
                ..
            }) => {}
            Err(why) => return Err(why),
        }
    }
    Err(Failure::NoReflection)
}

/// Asks for what is imported, until nothing is missing or the rest is not given.
async fn imports(
    connection: &mut Connection,
    path: &'static str,
    files: &mut Files,
) -> Result<(), Failure> {
    let mut asked = BTreeSet::new();
    for _ in 0..MOST_ROUNDS {
        let missing: Vec<String> = missing(files)?
            .into_iter()
            .filter(|file| asked.insert(file.clone()))
            .collect();
        if missing.is_empty() {
            break;
        }
        let questions = missing.iter().map(|file| Question::of_file(file)).collect();
        for answer in connection.round(path, questions).await? {
            take(answer, files)?;
        }
    }
    Ok(())
}

/// Files that are imported and not there.
fn missing(files: &Files) -> Result<BTreeSet<String>, Failure> {
    let mut missing = BTreeSet::new();
    for bytes in files.values() {
        missing.extend(
            file(bytes)?
                .dependency
                .into_iter()
                .filter(|import| !files.contains_key(import)),
        );
    }
    Ok(missing)
}

/// Takes the files of an answer; what it says instead, if it has none.
fn take(answer: Answer, files: &mut Files) -> Result<Option<String>, Failure> {
    match answer.files() {
        Ok(given) => {
            for bytes in given {
                files.insert(file(&bytes)?.name, bytes);
            }
            Ok(None)
        }
        Err(why) => Ok(Some(why)),
    }
}

fn file(bytes: &[u8]) -> Result<FileDescriptorProto, Failure> {
    FileDescriptorProto::decode(bytes).map_err(|error| {
        Failure::Nonsense(format!("it gives a file that is no descriptor: {error}"))
    })
}

/// A `FileDescriptorSet` of files that stay as they are, comments and unknown options included.
fn set(files: &Files) -> Vec<u8> {
    let mut set = Vec::with_capacity(files.values().map(|bytes| bytes.len() + 8).sum());
    for bytes in files.values() {
        prost::encoding::bytes::encode(1, bytes, &mut set);
    }
    set
}
