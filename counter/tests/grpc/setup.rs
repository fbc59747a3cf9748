//! The program with a store of one's own, and small words for what tests do with it.

use prost::Message as _;
use proto::counter::counter_service_client::CounterServiceClient;
use proto::counter::{BatchGetRequest, GetCounterRequest, IncrementRequest, IncrementResponse};
use proto::rpc::{BadRequest, ErrorInfo, Status as RichStatus};
use tempfile::TempDir;
use testkit::{Program, Redis, Running};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

pub(crate) type Client = CounterServiceClient<Channel>;

/// Where a test keeps its counts. The guards keep directory and server alive.
pub(crate) enum Store {
    Memory,
    Embedded(TempDir),
    Redis(Redis),
}

impl Store {
    /// One of each kind, new.
    pub(crate) async fn each() -> [Self; 3] {
        [
            Self::Memory,
            Self::embedded(),
            Self::Redis(Redis::start().await),
        ]
    }

    pub(crate) fn embedded() -> Self {
        Self::Embedded(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn flag(&self) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
            Self::Embedded(directory) => format!("embedded:{}", directory.path().display()),
            Self::Redis(redis) => redis.url(),
        }
    }
}

pub(crate) fn program() -> Program {
    Program::at(env!("CARGO_BIN_EXE_highpress-counter"))
}

pub(crate) fn on_free_ports() -> Program {
    program().args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
}

pub(crate) async fn start(store: &Store) -> Running {
    on_free_ports()
        .args(["--store", &store.flag()])
        .start()
        .await
}

pub(crate) async fn connect(counter: &Running) -> Client {
    let channel = Channel::from_shared(format!("http://{}", counter.address("grpc")))
        .expect("an address is a URI")
        .tcp_nodelay(true)
        .connect()
        .await
        .expect("the program listens");
    Client::new(channel)
}

pub(crate) async fn add(
    client: &Client,
    resource: &str,
    kind: &str,
    delta: i64,
) -> Result<IncrementResponse, Status> {
    let request = IncrementRequest {
        resource_id: resource.to_owned(),
        counter_type: kind.to_owned(),
        delta,
    };
    client
        .clone()
        .increment_counter(request)
        .await
        .map(tonic::Response::into_inner)
}

/// An idempotency key and who made it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'a> {
    text: &'a str,
    gateways: bool,
}

impl<'a> Key<'a> {
    pub(crate) fn client(text: &'a str) -> Self {
        Self {
            text,
            gateways: false,
        }
    }

    pub(crate) fn gateway(text: &'a str) -> Self {
        Self {
            text,
            gateways: true,
        }
    }
}

/// Adds with an idempotency key; the answer, and whether it says that it is an earlier one.
pub(crate) async fn add_once(
    client: &Client,
    resource: &str,
    kind: &str,
    delta: i64,
    key: Key<'_>,
) -> Result<(IncrementResponse, bool), Status> {
    let mut request = Request::new(IncrementRequest {
        resource_id: resource.to_owned(),
        counter_type: kind.to_owned(),
        delta,
    });
    let metadata = request.metadata_mut();
    let text = key.text.parse().expect("a header's value");
    metadata.insert("idempotency-key", text);
    if key.gateways {
        let gateway = MetadataValue::from_static("gateway");
        metadata.insert("idempotency-key-origin", gateway);
    }
    let response = client.clone().increment_counter(request).await?;
    let replayed = response
        .metadata()
        .get("idempotency-replayed")
        .inspect(|value| assert_eq!(*value, "true"))
        .is_some();
    Ok((response.into_inner(), replayed))
}

pub(crate) async fn get(client: &Client, resource: &str, kind: &str) -> Result<i64, Status> {
    let answer = client
        .clone()
        .get_counter(name(resource, kind))
        .await?
        .into_inner();
    assert_eq!(
        (answer.resource_id.as_str(), answer.counter_type.as_str()),
        (resource, kind)
    );
    Ok(answer.current_value)
}

pub(crate) async fn batch(client: &Client, items: &[(&str, &str)]) -> Result<Vec<i64>, Status> {
    let request = BatchGetRequest {
        items: items
            .iter()
            .map(|(resource, kind)| name(resource, kind))
            .collect(),
    };
    let results = client
        .clone()
        .batch_get_counters(request)
        .await?
        .into_inner()
        .results;
    let names: Vec<_> = results
        .iter()
        .map(|r| (r.resource_id.as_str(), r.counter_type.as_str()))
        .collect();
    assert_eq!(names, items, "results stand in the order of the items");
    Ok(results.iter().map(|result| result.current_value).collect())
}

pub(crate) fn name(resource: &str, kind: &str) -> GetCounterRequest {
    GetCounterRequest {
        resource_id: resource.to_owned(),
        counter_type: kind.to_owned(),
    }
}

/// `field: why` of every violation in the error's details.
pub(crate) fn violations(status: &Status) -> Vec<String> {
    let detail: BadRequest = detail(status, "google.rpc.BadRequest");
    detail
        .field_violations
        .iter()
        .map(|v| format!("{}: {}", v.field, v.description))
        .collect()
}

pub(crate) fn reason(status: &Status) -> String {
    let detail: ErrorInfo = detail(status, "google.rpc.ErrorInfo");
    assert_eq!(detail.domain, "highpress");
    detail.reason
}

fn detail<M: prost::Message + Default>(status: &Status, name: &str) -> M {
    let rich = RichStatus::decode(status.details())
        .expect("grpc-status-details-bin is a google.rpc.Status");
    assert_eq!(rich.code, status.code() as i32);
    assert_eq!(rich.message, status.message());
    let any = rich.details.iter().find(|any| any.type_url.ends_with(name));
    let any = any.unwrap_or_else(|| panic!("{status:?} has no {name}"));
    M::decode(any.value.as_slice()).expect("the detail decodes")
}
