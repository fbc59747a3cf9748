//! The counter service: proto in, proto out. It checks, asks the store, answers.
//!
//! It refuses ids and idempotency keys that break the rules and batches of none or more than 1,000, all faults at once; it
//! keeps nothing itself.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use proto::counter::counter_service_server::CounterService;
use proto::counter::{
    BatchGetRequest, BatchGetResponse, GetCounterRequest, GetCounterResponse, GetStatusRequest,
    GetStatusResponse, IncrementRequest, IncrementResponse,
};
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};

use crate::error::{Violation, from_store, invalid};
use crate::id::{CounterId, InvalidId, Problem};
use crate::idempotency::{IdempotencyKey, InvalidKey, Origin};
use crate::metrics::{KeyMetrics, Operation, StoreMetrics};
use crate::status::ServiceStatus;
use crate::store::{Increment, Store, UnixMillis};
use crate::unary::{self, Answer};

/// The most counters in one batch.
pub const MAX_BATCH: usize = 1000;
/// How many wrong items of a batch are named before the rest is only counted.
const MAX_VIOLATIONS: usize = 20;
/// Metadata of a request: `gateway` if the key is the gateway's own, made for its retries.
const KEY_ORIGIN: &str = "idempotency-key-origin";
/// Metadata of an answer: it is that of an earlier call with the same key.
const REPLAYED: &str = "idempotency-replayed";
const YES: HeaderValue = HeaderValue::from_static("true");

/// The service over any store.
#[derive(Debug)]
pub(crate) struct Counters {
    store: Arc<dyn Store>,
    metrics: StoreMetrics,
    keys: KeyMetrics,
    status: Arc<ServiceStatus>,
}

impl Counters {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        metrics: StoreMetrics,
        keys: KeyMetrics,
        status: Arc<ServiceStatus>,
    ) -> Self {
        Self {
            store,
            metrics,
            keys,
            status,
        }
    }
}

impl Counters {
    /// Counts; whether the answer is that of an earlier call with the same key.
    pub(crate) async fn increment(
        &self,
        metadata: &HeaderMap,
        request: IncrementRequest,
    ) -> Result<(IncrementResponse, bool), Status> {
        let key = idempotency_key(metadata);
        let IncrementRequest {
            resource_id,
            counter_type,
            delta,
        } = request;
        let (counter, key) = check_both(&resource_id, &counter_type, key)?;
        let origin = key.as_ref().map(IdempotencyKey::origin);
        let increment = Increment {
            counter,
            // proto3 cannot tell an absent delta from 0, so 0 is the default increment.
            delta: if delta == 0 { 1 } else { delta },
            key,
        };
        let timer = self.metrics.begin(Operation::Increment);
        let counted = timer.end(self.store.increment(increment).await);
        if let Some(origin) = origin {
            self.keys.record(origin, &counted);
        }
        let counted = counted.map_err(|error| from_store(&error))?;
        let response = IncrementResponse {
            success: true,
            current_value: counted.value,
            message: "counted".to_owned(),
            resource_id,
            counter_type,
            timestamp: counted.at.seconds(),
        };
        Ok((response, counted.replayed))
    }

    /// The same for a call as it comes from HTTP/2.
    pub(crate) async fn increment_unary(&self, request: Request<Incoming>) -> Response<Answer> {
        let counted = async {
            let (metadata, request) = unary::read(request).await?;
            self.increment(&metadata, request).await
        };
        match counted.await {
            Ok((message, replayed)) => {
                let mut response = unary::answer(&message);
                if replayed {
                    response.headers_mut().insert(REPLAYED, YES);
                }
                response
            }
            Err(status) => status.into_http().map(Answer::Tonic),
        }
    }
}

#[tonic::async_trait]
impl CounterService for Counters {
    async fn increment_counter(
        &self,
        request: tonic::Request<IncrementRequest>,
    ) -> Result<tonic::Response<IncrementResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let (message, replayed) = self.increment(metadata.as_ref(), request).await?;
        let mut response = tonic::Response::new(message);
        if replayed {
            let yes = MetadataValue::<Ascii>::from_static("true");
            response.metadata_mut().insert(REPLAYED, yes);
        }
        Ok(response)
    }

    async fn get_counter(
        &self,
        request: tonic::Request<GetCounterRequest>,
    ) -> Result<tonic::Response<GetCounterResponse>, Status> {
        let item = request.into_inner();
        let counter = check(&item.resource_id, &item.counter_type)?;
        // Taken before the read: the value was true at that second or later.
        let at = UnixMillis::now();
        let timer = self.metrics.begin(Operation::Get);
        let value = timer
            .end(self.store.get(&counter).await)
            .map_err(|error| from_store(&error))?;
        Ok(tonic::Response::new(answer(item, value, at)))
    }

    async fn batch_get_counters(
        &self,
        request: tonic::Request<BatchGetRequest>,
    ) -> Result<tonic::Response<BatchGetResponse>, Status> {
        let items = request.into_inner().items;
        let counters = check_all(&items)?;
        let at = UnixMillis::now();
        let timer = self.metrics.begin(Operation::GetMany);
        let values = timer
            .end(self.store.get_many(counters).await)
            .map_err(|error| from_store(&error))?;
        let results = items
            .into_iter()
            .zip(values)
            .map(|(item, value)| answer(item, value, at))
            .collect();
        Ok(tonic::Response::new(BatchGetResponse { results }))
    }

    async fn get_status(
        &self,
        _: tonic::Request<GetStatusRequest>,
    ) -> Result<tonic::Response<GetStatusResponse>, Status> {
        self.status.refresh().await;
        Ok(tonic::Response::new(self.status.to_proto()))
    }
}

fn answer(item: GetCounterRequest, value: i64, at: UnixMillis) -> GetCounterResponse {
    GetCounterResponse {
        resource_id: item.resource_id,
        counter_type: item.counter_type,
        current_value: value,
        updated_at: at.seconds(),
    }
}

/// The key that the caller sent, if any. One call has one key.
fn idempotency_key(metadata: &HeaderMap) -> Result<Option<IdempotencyKey>, InvalidKey> {
    let mut keys = metadata.get_all(proto::IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    if keys.next().is_some() {
        return Err(InvalidKey);
    }
    let gateways = metadata
        .get(KEY_ORIGIN)
        .is_some_and(|origin| origin == Origin::Gateway.label());
    let origin = if gateways {
        Origin::Gateway
    } else {
        Origin::Client
    };
    let text = key.to_str().map_err(|_| InvalidKey)?;
    IdempotencyKey::new(text, origin).map(Some)
}

fn check_both(
    resource_id: &str,
    counter_type: &str,
    key: Result<Option<IdempotencyKey>, InvalidKey>,
) -> Result<(CounterId, Option<IdempotencyKey>), Status> {
    match (CounterId::new(resource_id, counter_type), key) {
        (Ok(counter), Ok(key)) => Ok((counter, key)),
        (counter, key) => {
            let fields = counter.err().map(|error| violations(&error));
            let key = key.err().map(|error| Violation {
                field: proto::IDEMPOTENCY_KEY.to_owned(),
                why: error.to_string(),
            });
            Err(invalid(fields.into_iter().flatten().chain(key).collect()))
        }
    }
}

fn violations(error: &InvalidId) -> Vec<Violation> {
    let violation = |problem: &Problem| Violation {
        field: problem.field.to_owned(),
        why: problem.why.to_owned(),
    };
    error.0.iter().map(violation).collect()
}

fn check(resource_id: &str, counter_type: &str) -> Result<CounterId, Status> {
    CounterId::new(resource_id, counter_type).map_err(|error| invalid(violations(&error)))
}

fn check_all(items: &[GetCounterRequest]) -> Result<Vec<CounterId>, Status> {
    let sized = |why: String| {
        Err(invalid(vec![Violation {
            field: "items".to_owned(),
            why,
        }]))
    };
    if items.is_empty() {
        return sized("must not be empty".to_owned());
    }
    if items.len() > MAX_BATCH {
        return sized(format!(
            "must not be more than {MAX_BATCH}, not {}",
            items.len()
        ));
    }
    let mut counters = Vec::with_capacity(items.len());
    let mut violations = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match CounterId::new(&item.resource_id, &item.counter_type) {
            Ok(counter) => counters.push(counter),
            Err(error) => violations.extend(error.0.iter().map(|problem| Violation {
                field: format!("items[{index}].{}", problem.field),
                why: problem.why.to_owned(),
            })),
        }
    }
    if violations.is_empty() {
        return Ok(counters);
    }
    let more = violations.len().saturating_sub(MAX_VIOLATIONS);
    violations.truncate(MAX_VIOLATIONS);
    if more > 0 {
        violations.push(Violation {
            field: "items".to_owned(),
            why: format!("have {more} more such problems"),
        });
    }
    Err(invalid(violations))
}
