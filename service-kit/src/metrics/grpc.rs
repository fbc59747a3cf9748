//! The two gRPC metrics that dashboards rely on, the same in every service:
//! `highgopress_grpc_requests_total{service,method,status_code}` and `highgopress_grpc_request_duration_seconds`.
//!
//! `service` and `method` are the names of the descriptor (`counter.CounterService`, `GetCounter`), `status_code` the
//! code's name (`OK`, `INVALID_ARGUMENT`). A call is a guard, so one that its caller gives up is counted too, as `CANCELLED`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::duration_histogram;

/// The name of a gRPC status code as <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md> writes it.
pub fn grpc_code_name(code: u32) -> &'static str {
    match code {
        0 => "OK",
        1 => "CANCELLED",
        3 => "INVALID_ARGUMENT",
        4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND",
        6 => "ALREADY_EXISTS",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION",
        10 => "ABORTED",
        11 => "OUT_OF_RANGE",
        12 => "UNIMPLEMENTED",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        15 => "DATA_LOSS",
        16 => "UNAUTHENTICATED",
        _ => "UNKNOWN",
    }
}

const OK: u32 = 0;
const CANCELLED: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    service: &'static str,
    method: &'static str,
    status_code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    service: &'static str,
    method: &'static str,
}

/// The gRPC metrics of one program.
#[derive(Debug, Clone)]
pub struct GrpcMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
}

impl GrpcMetrics {
    /// Registers both metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let requests = Family::default();
        let durations = Family::new_with_constructor(duration_histogram as fn() -> Histogram);
        registry.register(
            "highgopress_grpc_requests",
            "gRPC calls answered",
            requests.clone(),
        );
        registry.register(
            "highgopress_grpc_request_duration_seconds",
            "Time from a gRPC call's arrival to its answer",
            durations.clone(),
        );
        Self {
            requests,
            durations,
        }
    }

    /// Begins a call. Both names are fixed words of the contract, never what a caller sent.
    pub fn begin(&self, service: &'static str, method: &'static str) -> GrpcCall {
        self.method(service, method).begin()
    }

    /// A method whose metrics are looked up once: for those that are called often.
    pub fn method(&self, service: &'static str, method: &'static str) -> Arc<GrpcMethod> {
        Arc::new(GrpcMethod {
            metrics: self.clone(),
            labels: DurationLabels { service, method },
            answered: OnceLock::new(),
        })
    }
}

/// The metrics of one method.
#[derive(Debug)]
pub struct GrpcMethod {
    metrics: GrpcMetrics,
    labels: DurationLabels,
    /// Calls that ended well, and how long all took; not there before there is one, as nothing is shown of what never was.
    answered: OnceLock<(Counter, Histogram)>,
}

impl GrpcMethod {
    /// Begins a call.
    pub fn begin(self: &Arc<Self>) -> GrpcCall {
        GrpcCall {
            method: self.clone(),
            code: CANCELLED,
            begun: Instant::now(),
        }
    }

    fn requests(&self, code: u32) -> Counter {
        let DurationLabels { service, method } = self.labels;
        let status_code = grpc_code_name(code);
        self.metrics.requests.get_or_create_owned(&RequestLabels {
            service,
            method,
            status_code,
        })
    }

    fn record(&self, code: u32, took: Duration) {
        if code == OK {
            let look_up = || {
                let durations = self.metrics.durations.get_or_create_owned(&self.labels);
                (self.requests(OK), durations)
            };
            let (requests, durations) = self.answered.get_or_init(look_up);
            requests.inc();
            durations.observe(took.as_secs_f64());
            return;
        }
        self.requests(code).inc();
        let durations = self.metrics.durations.get_or_create(&self.labels);
        durations.observe(took.as_secs_f64());
    }
}

/// A call under way: counted when it is dropped, with the code given to [`GrpcCall::end`].
#[must_use = "the call is counted when the guard is dropped"]
#[derive(Debug)]
pub struct GrpcCall {
    method: Arc<GrpcMethod>,
    code: u32,
    begun: Instant,
}

impl GrpcCall {
    /// The call ends with this gRPC code.
    pub fn end(mut self, code: u32) {
        self.code = code;
    }
}

impl Drop for GrpcCall {
    fn drop(&mut self) {
        self.method.record(self.code, self.begun.elapsed());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counts_answers_and_calls_given_up() {
        let mut registry = Registry::default();
        let metrics = GrpcMetrics::register(&mut registry);
        let call = metrics.begin("counter.CounterService", "GetCounter");
        tokio::time::advance(Duration::from_millis(3)).await;
        call.end(0);
        drop(metrics.begin("counter.CounterService", "GetCounter"));
        let often = metrics.method("counter.CounterService", "GetCounter");
        often.begin().end(0);
        often.begin().end(0);
        often.begin().end(14);
        let text = super::super::text(&registry).unwrap();
        for line in [
            r#"highgopress_grpc_requests_total{service="counter.CounterService",method="GetCounter",status_code="OK"} 3"#,
            r#"highgopress_grpc_requests_total{service="counter.CounterService",method="GetCounter",status_code="CANCELLED"} 1"#,
            r#"highgopress_grpc_requests_total{service="counter.CounterService",method="GetCounter",status_code="UNAVAILABLE"} 1"#,
            r#"highgopress_grpc_request_duration_seconds_count{service="counter.CounterService",method="GetCounter"} 5"#,
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }
}
