//! Metrics glue on prometheus-client: the registry that every program starts from, its text, shared buckets, gRPC calls.
//!
//! A registry is a value that a program owns: two programs in one process have two. Names are written in full where they are
//! registered, so a dashboard's name can be found by searching for it (counters without `_total`, which the text adds).
//! Text format: <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>

mod grpc;
mod process;

use std::borrow::Cow;

use prometheus_client::encoding::text;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use self::grpc::{GrpcCall, GrpcMethod, GrpcMetrics, grpc_code_name};
pub use self::process::{ProcessCollector, resident_memory};

/// The content type of [`text()`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds for the duration of a request: 100 µs to 10 s.
pub const DURATION_BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// A histogram of durations in seconds; the constructor for a `Family` of them too.
pub fn duration_histogram() -> Histogram {
    Histogram::new(DURATION_BUCKETS)
}

/// A registry with what every program tells: `highpress_build_info{service,version}` and the `process_*` metrics.
pub fn registry(service: &str, version: &str) -> Registry {
    let mut registry = Registry::default();
    let build = vec![
        ("service", Cow::from(service.to_owned())),
        ("version", Cow::from(version.to_owned())),
    ];
    registry.register("highpress_build", "What is running", Info::new(build));
    registry.register_collector(Box::new(ProcessCollector));
    registry
}

/// The registry as OpenMetrics text.
pub fn text(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut out = String::with_capacity(8 * 1024);
    text::encode(&mut out, registry)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn every_registry_tells_build_and_process() {
        let text = text(&registry("counter", "1.2.3")).unwrap();
        assert!(
            text.contains(r#"highpress_build_info{service="counter",version="1.2.3"} 1"#),
            "{text}"
        );
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
