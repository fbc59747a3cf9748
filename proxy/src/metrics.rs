//! The gateway's numbers: one writer per cell, no locks and no shared cache lines on a request's way.
//!
//! Every worker thread owns one shard of each route's statistics and adds to it with plain loads and
//! stores; a scrape sums the shards. Labels are looked up when a route is compiled, never per request, and
//! a route that a reload keeps goes on counting where it was. Imports nothing else of this crate.

mod faults;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

pub use faults::FaultCounts;

/// Upper bounds of the latency buckets, in microseconds.
const BOUNDS_US: [u64; 16] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// The statuses that the gateway itself gives, each with a cell of its own; any other one that a
/// passed-through backend gives is kept in a small map.
const STATUSES: [u16; 28] = [
    200, 201, 202, 204, 206, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 413, 414,
    417, 422, 429, 431, 500, 501, 502, 503, 504,
];

/// gRPC status codes 0 to 16 by their names in google/rpc/code.proto; anything else counts as UNKNOWN.
pub const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// What a route's statistics are labelled with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteLabels {
    /// HTTP method, or `*` where the route takes any.
    pub method: String,
    /// The route's pattern, never a raw path.
    pub endpoint: String,
    /// The gRPC service and method that it calls, if it transcodes.
    pub grpc: Option<(String, String)>,
}

/// All statistics of one gateway process; registered as a collector.
pub struct Metrics {
    workers: usize,
    routes: Mutex<BTreeMap<RouteLabels, Arc<RouteStats>>>,
    faults: faults::Faults,
}

/// Statistics of one route, a shard for each worker.
pub struct RouteStats {
    shards: Box<[Shard]>,
    rare: Mutex<BTreeMap<u16, u64>>,
}

impl fmt::Debug for RouteStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteStats").finish_non_exhaustive()
    }
}

/// Padded to two cache lines so that neighbours' shards are not fetched together.
#[repr(align(128))]
#[derive(Default)]
struct Shard {
    statuses: [AtomicU64; STATUSES.len()],
    codes: [AtomicU64; GRPC_CODES.len()],
    http: Latency,
    grpc: Latency,
}

#[derive(Default)]
struct Latency {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// Sums over all routes since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests answered.
    pub requests: u64,
    /// Those of them that were answered with 500 or more.
    pub errors: u64,
    /// gRPC calls made.
    pub calls: u64,
}

/// One latency histogram summed over the shards.
struct Sum {
    buckets: Vec<(f64, u64)>,
    count: u64,
    seconds: f64,
}

// === impl Metrics ===

impl Metrics {
    /// Statistics for `workers` worker threads.
    pub fn new(workers: usize) -> Self {
        Self {
            workers: workers.max(1),
            routes: Mutex::default(),
            faults: faults::Faults::default(),
        }
    }

    /// The statistics for these labels: the ones that stand already, or new ones.
    pub fn route(&self, labels: RouteLabels) -> Arc<RouteStats> {
        self.routes
            .lock()
            .entry(labels)
            .or_insert_with(|| Arc::new(RouteStats::new(self.workers)))
            .clone()
    }

    /// The counts of the faults that a route injects: the ones that stand already, or new ones.
    pub fn faults(&self, route: &str) -> Arc<FaultCounts> {
        self.faults.of(route)
    }

    /// The sums of everything.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for stats in self.routes.lock().values() {
            for (status, count) in stats.statuses() {
                totals.requests += count;
                totals.errors += if status >= 500 { count } else { 0 };
            }
            totals.calls += stats.sum(|shard| &shard.grpc).count;
        }
        totals
    }

    fn http_requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "highgopress_http_requests",
            "HTTP requests answered, by route pattern and status",
            None,
            MetricType::Counter,
        )?;
        for (labels, stats) in self.routes.lock().iter() {
            for (status, count) in stats.statuses() {
                let set = [
                    ("method", labels.method.as_str()),
                    ("endpoint", labels.endpoint.as_str()),
                    ("status_code", &status.to_string()),
                    ("service", "gateway"),
                ];
                counter(&mut family, &set, count)?;
            }
        }
        Ok(())
    }

    fn http_durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "highgopress_http_request_duration",
            "From the request's first byte to its answer",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (labels, stats) in self.routes.lock().iter() {
            let set = [
                ("method", labels.method.as_str()),
                ("endpoint", labels.endpoint.as_str()),
                ("service", "gateway"),
            ];
            stats.sum(|shard| &shard.http).encode(&mut family, &set)?;
        }
        Ok(())
    }

    fn grpc_requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "highgopress_grpc_requests",
            "gRPC calls made to backends, by outcome",
            None,
            MetricType::Counter,
        )?;
        for (service, method, stats) in self.grpc_routes() {
            for (code, count) in stats.codes() {
                let set = [
                    ("service", service.as_str()),
                    ("method", method.as_str()),
                    ("status_code", code),
                ];
                counter(&mut family, &set, count)?;
            }
        }
        Ok(())
    }

    fn grpc_durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "highgopress_grpc_request_duration",
            "Time that gRPC calls to backends took, all tries together",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (service, method, stats) in self.grpc_routes() {
            let set = [("service", service.as_str()), ("method", method.as_str())];
            stats.sum(|shard| &shard.grpc).encode(&mut family, &set)?;
        }
        Ok(())
    }

    /// The transcoded routes by gRPC method: two bindings of one method are one row.
    fn grpc_routes(&self) -> Vec<(String, String, MergedStats)> {
        let mut rows: BTreeMap<(String, String), MergedStats> = BTreeMap::new();
        for (labels, stats) in self.routes.lock().iter() {
            if let Some(grpc) = &labels.grpc {
                rows.entry(grpc.clone()).or_default().0.push(stats.clone());
            }
        }
        rows.into_iter()
            .map(|((service, method), stats)| (service, method, stats))
            .collect()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.http_requests(&mut encoder)?;
        self.http_durations(&mut encoder)?;
        self.grpc_requests(&mut encoder)?;
        self.grpc_durations(&mut encoder)?;
        self.faults.encode(&mut encoder)
    }
}

// === impl RouteStats ===

impl RouteStats {
    fn new(workers: usize) -> Self {
        Self {
            shards: (0..workers).map(|_| Shard::default()).collect(),
            rare: Mutex::default(),
        }
    }

    /// Counts an answered HTTP request. Only the thread of `worker` may pass its index.
    pub fn answered(&self, worker: usize, status: u16, took: Duration) {
        let Some(shard) = self.shards.get(worker) else {
            return;
        };
        match STATUSES.binary_search(&status) {
            Ok(slot) => add(&shard.statuses[slot], 1),
            Err(_) => *self.rare.lock().entry(status).or_default() += 1,
        }
        shard.http.record(took);
    }

    /// Counts a finished gRPC call. Only the thread of `worker` may pass its index.
    pub fn called(&self, worker: usize, code: u32, took: Duration) {
        let Some(shard) = self.shards.get(worker) else {
            return;
        };
        let slot = usize::try_from(code)
            .ok()
            .filter(|slot| *slot < GRPC_CODES.len())
            .unwrap_or(2);
        add(&shard.codes[slot], 1);
        shard.grpc.record(took);
    }

    fn statuses(&self) -> BTreeMap<u16, u64> {
        let mut all = self.rare.lock().clone();
        for (slot, status) in STATUSES.iter().enumerate() {
            let count = self
                .shards
                .iter()
                .map(|shard| shard.statuses[slot].load(Relaxed))
                .sum();
            if count > 0 {
                all.insert(*status, count);
            }
        }
        all
    }

    fn sum(&self, which: impl Fn(&Shard) -> &Latency) -> Sum {
        let mut sum = Sum::empty();
        self.shards.iter().for_each(|shard| sum.add(which(shard)));
        sum
    }
}

/// The statistics of all routes that call one gRPC method.
#[derive(Default)]
struct MergedStats(Vec<Arc<RouteStats>>);

impl MergedStats {
    fn codes(&self) -> Vec<(&'static str, u64)> {
        let shards = || self.0.iter().flat_map(|stats| stats.shards.iter());
        let count = |slot: usize| {
            shards()
                .map(|shard| shard.codes[slot].load(Relaxed))
                .sum::<u64>()
        };
        let all = GRPC_CODES
            .iter()
            .enumerate()
            .map(|(slot, code)| (*code, count(slot)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    fn sum(&self, which: impl Fn(&Shard) -> &Latency) -> Sum {
        let mut sum = Sum::empty();
        self.0
            .iter()
            .flat_map(|stats| stats.shards.iter())
            .for_each(|shard| sum.add(which(shard)));
        sum
    }
}

// === impl Latency, Sum ===

impl Latency {
    fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let slot = BOUNDS_US
            .iter()
            .position(|bound| us <= *bound)
            .unwrap_or(BOUNDS_US.len());
        add(&self.buckets[slot], 1);
        add(&self.sum_us, us);
    }
}

impl Sum {
    fn empty() -> Self {
        let bounds = BOUNDS_US
            .iter()
            .map(|us| Duration::from_micros(*us).as_secs_f64());
        let buckets = bounds
            .chain([f64::INFINITY])
            .map(|bound| (bound, 0))
            .collect();
        Self {
            buckets,
            count: 0,
            seconds: 0.0,
        }
    }

    fn add(&mut self, latency: &Latency) {
        for (sum, cell) in self.buckets.iter_mut().zip(&latency.buckets) {
            let count = cell.load(Relaxed);
            sum.1 += count;
            self.count += count;
        }
        self.seconds += Duration::from_micros(latency.sum_us.load(Relaxed)).as_secs_f64();
    }

    fn encode(&self, family: &mut MetricEncoder<'_>, labels: &[(&str, &str)]) -> fmt::Result {
        if self.count == 0 {
            return Ok(());
        }
        family
            .encode_family(&labels)?
            .encode_histogram::<[(&str, &str); 0]>(self.seconds, self.count, &self.buckets, None)
    }
}

/// One writer a cell: a load and a store are enough, and cost no locked instruction.
fn add(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}

fn counter(family: &mut MetricEncoder<'_>, labels: &[(&str, &str)], count: u64) -> fmt::Result {
    family
        .encode_family(&labels)?
        .encode_counter::<[(&str, &str); 0], _, u64>(&count, None)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn labels(endpoint: &str) -> RouteLabels {
        RouteLabels {
            method: "GET".into(),
            endpoint: endpoint.into(),
            grpc: Some(("counter.CounterService".into(), "GetCounter".into())),
        }
    }

    #[test]
    fn scrape_sums_the_shards_of_all_workers() {
        let metrics = Arc::new(Metrics::new(2));
        let stats = metrics.route(labels("/a"));
        stats.answered(0, 200, Duration::from_millis(1));
        stats.answered(1, 200, Duration::from_millis(3));
        stats.answered(1, 299, Duration::from_millis(3));
        stats.called(0, 0, Duration::from_millis(1));
        metrics
            .route(labels("/b"))
            .called(1, 14, Duration::from_millis(1));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(metrics));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"highgopress_http_requests_total{method="GET",endpoint="/a",status_code="200",service="gateway"} 2"#,
            r#"highgopress_http_requests_total{method="GET",endpoint="/a",status_code="299",service="gateway"} 1"#,
            r#"highgopress_http_request_duration_seconds_count{method="GET",endpoint="/a",service="gateway"} 3"#,
            r#"highgopress_grpc_requests_total{service="counter.CounterService",method="GetCounter",status_code="OK"} 1"#,
            r#"highgopress_grpc_requests_total{service="counter.CounterService",method="GetCounter",status_code="UNAVAILABLE"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn statuses_are_sorted_for_the_binary_search() {
        assert!(STATUSES.is_sorted());
    }

    #[test]
    fn a_route_that_stays_goes_on_counting() {
        let metrics = Metrics::new(1);
        metrics.route(labels("/a")).answered(0, 200, Duration::ZERO);
        let again = metrics.route(labels("/a"));
        again.answered(0, 200, Duration::ZERO);
        assert_eq!(again.statuses()[&200], 2);
    }
}
