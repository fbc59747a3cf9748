//! The counter service: proto in, proto out. It checks, asks the store, answers.
//!
//! It refuses ids that break the rules and batches of none or more than 1,000, all faults at once; it keeps nothing itself.

use std::sync::Arc;

use proto::counter::counter_service_server::CounterService;
use proto::counter::{
    BatchGetRequest, BatchGetResponse, GetCounterRequest, GetCounterResponse, GetStatusRequest,
    GetStatusResponse, IncrementRequest, IncrementResponse,
};
use tonic::{Request, Response, Status};

use crate::error::{Violation, from_store, invalid};
use crate::id::CounterId;
use crate::metrics::{Operation, StoreMetrics};
use crate::status::ServiceStatus;
use crate::store::{Increment, Store, UnixMillis};

/// The most counters in one batch.
pub const MAX_BATCH: usize = 1000;
/// How many wrong items of a batch are named before the rest is only counted.
const MAX_VIOLATIONS: usize = 20;

/// The service over any store.
#[derive(Debug)]
pub(crate) struct Counters {
    store: Arc<dyn Store>,
    metrics: StoreMetrics,
    status: Arc<ServiceStatus>,
}

impl Counters {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        metrics: StoreMetrics,
        status: Arc<ServiceStatus>,
    ) -> Self {
        Self {
            store,
            metrics,
            status,
        }
    }
}

#[tonic::async_trait]
impl CounterService for Counters {
    async fn increment_counter(
        &self,
        request: Request<IncrementRequest>,
    ) -> Result<Response<IncrementResponse>, Status> {
        let IncrementRequest {
            resource_id,
            counter_type,
            delta,
        } = request.into_inner();
        let counter = check(&resource_id, &counter_type)?;
        // proto3 cannot tell an absent delta from 0, so 0 is the default increment.
        let delta = if delta == 0 { 1 } else { delta };
        let timer = self.metrics.begin(Operation::Increment);
        let counted = self.store.increment(Increment { counter, delta }).await;
        let counted = timer.end(counted).map_err(|error| from_store(&error))?;
        Ok(Response::new(IncrementResponse {
            success: true,
            current_value: counted.value,
            message: "counted".to_owned(),
            resource_id,
            counter_type,
            timestamp: counted.at.seconds(),
        }))
    }

    async fn get_counter(
        &self,
        request: Request<GetCounterRequest>,
    ) -> Result<Response<GetCounterResponse>, Status> {
        let item = request.into_inner();
        let counter = check(&item.resource_id, &item.counter_type)?;
        // Taken before the read: the value was true at that second or later.
        let at = UnixMillis::now();
        let timer = self.metrics.begin(Operation::Get);
        let value = timer
            .end(self.store.get(&counter).await)
            .map_err(|error| from_store(&error))?;
        Ok(Response::new(answer(item, value, at)))
    }

    async fn batch_get_counters(
        &self,
        request: Request<BatchGetRequest>,
    ) -> Result<Response<BatchGetResponse>, Status> {
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
        Ok(Response::new(BatchGetResponse { results }))
    }

    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(self.status.to_proto()))
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

fn check(resource_id: &str, counter_type: &str) -> Result<CounterId, Status> {
    CounterId::new(resource_id, counter_type).map_err(|error| {
        let violations = error.0.iter().map(|problem| Violation {
            field: problem.field.to_owned(),
            why: problem.why.to_owned(),
        });
        invalid(violations.collect())
    })
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
