//! Adaptive concurrency: a backend that is asked for five times what it can do goes on doing what it can, and who is
//! let in is answered in time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use testkit::backend::{Answer, Backend};
use testkit::http_backend::{Step, ok};
use testkit::mesh::Gateway;
use testkit::{Http1, HttpBackend, Metrics};
use tokio::time::{Instant, sleep_until, timeout_at};

/// What the backend does: so many at once, each in this time. More wait, as in any thread pool.
const SLOTS: usize = 8;
const SERVICE: Duration = Duration::from_millis(40);
const CAPACITY: f64 = 200.0; // a second
const TIMEOUT: Duration = Duration::from_millis(800);
const MEASURED: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;

/// When each slot is free again.
#[derive(Clone)]
struct Pool(Arc<Mutex<[Instant; SLOTS]>>);

impl Pool {
    fn new() -> Self {
        Self(Arc::new(Mutex::new([Instant::now(); SLOTS])))
    }

    /// Takes the slot that is free first; gives how long it is until it has done the work.
    fn wait(&self) -> Duration {
        let mut slots = self.0.lock();
        let now = Instant::now();
        let free = slots.iter_mut().min().expect("there are slots");
        *free = (*free).max(now) + SERVICE;
        *free - now
    }
}

fn yaml(protocol: &str, backend: SocketAddr, route: &str) -> String {
    format!(
        r#"
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
descriptors: [builtin]
clusters:
  - name: pool
    protocol: {protocol}
    endpoints: {{ static: ["{backend}"] }}
    adaptive_concurrency: {{ enabled: true }}
routes:
  - {{ name: all, {route}, to: pool, timeout: {TIMEOUT:?} }}
"#
    )
}

/// What clients saw.
#[derive(Default)]
struct Report {
    answered: usize,
    refused: usize,
    other: Vec<u16>,
    latencies: Vec<Duration>,
}

impl Report {
    fn p99(&mut self) -> Duration {
        self.latencies.sort();
        self.latencies[self.latencies.len() * 99 / 100]
    }

    fn goodput(&self) -> f64 {
        self.answered as f64 / MEASURED.as_secs_f64()
    }
}

/// `clients` connections, each of which asks once in `every`, or as soon as it has an answer if that took longer.
async fn load(gateway: SocketAddr, path: &'static str, clients: usize, every: Duration) -> Report {
    let begin = Instant::now() + Duration::from_millis(100);
    let end = begin + MEASURED;
    let client = move |nth: usize| async move {
        let mut report = Report::default();
        let mut connection = Http1::connect(gateway).await;
        let mut next = begin + every.mul_f64(nth as f64 / clients as f64);
        while next < end {
            sleep_until(next).await;
            let asked = Instant::now();
            let Ok(answer) = timeout_at(end, connection.get(path)).await else {
                break;
            };
            match answer.status {
                200 => {
                    report.answered += 1;
                    report.latencies.push(asked.elapsed());
                }
                503 => {
                    assert_eq!(answer.header("retry-after"), Some("1"));
                    report.refused += 1;
                }
                other => report.other.push(other),
            }
            next = (next + every).max(Instant::now());
        }
        report
    };
    let clients: Vec<_> = (0..clients).map(|nth| tokio::spawn(client(nth))).collect();
    let mut all = Report::default();
    for client in clients {
        let report = client.await.expect("a client does not panic");
        all.answered += report.answered;
        all.refused += report.refused;
        all.other.extend(report.other);
        all.latencies.extend(report.latencies);
    }
    all
}

/// What it does at its peak, and at five times that.
async fn round(gateway: SocketAddr, path: &'static str) -> (f64, Report) {
    // As many clients as it has slots, and a few so that none is ever free: the most it can do.
    let peak = load(gateway, path, SLOTS + 4, Duration::ZERO).await;
    let clients = 300;
    let every = Duration::from_secs_f64(clients as f64 / (5.0 * CAPACITY));
    (peak.goodput(), load(gateway, path, clients, every).await)
}

/// Other programs can only make it look worse, so it is looked at again where it did not look good.
async fn measured(gateway: SocketAddr, path: &'static str) -> (f64, Report) {
    let mut found = round(gateway, path).await;
    for _ in 1..ROUNDS {
        if found.0 > CAPACITY * 0.6 && found.1.goodput() > 0.9 * found.0 {
            break;
        }
        found = round(gateway, path).await;
    }
    found
}

async fn is_kept_busy_and_answers_in_time(gateway: Gateway, path: &'static str) {
    let (peak, mut overloaded) = measured(gateway.http(), path).await;
    assert!(
        peak > CAPACITY * 0.6,
        "the machine is too busy to tell: {peak} a second"
    );
    let (goodput, p99) = (overloaded.goodput(), overloaded.p99());
    let Report { refused, other, .. } = &overloaded;
    println!(
        "{path}: peak {peak:.0} a second; at five times that {goodput:.0}, p99 {p99:?}, {refused} refused, {} failed",
        other.len()
    );
    assert!(
        goodput > 0.9 * peak,
        "{goodput} of {peak} a second; {refused} refused, failed: {other:?}"
    );
    assert!(p99 < TIMEOUT, "{p99:?}");
    let failed = other.len() as f64 / overloaded.answered as f64;
    assert!(failed < 0.05, "who is let in is answered: {other:?}");
    let mut admin = Http1::connect(gateway.admin()).await;
    let question = format!("/explain?method=GET&path={path}");
    let explained = admin.get(&question).await.text();
    assert!(
        explained.contains("adaptive   8 to 4096 requests in flight, by latency; "),
        "{explained}"
    );
    let metrics = Metrics::scrape(gateway.admin()).await;
    let of_pool = [("cluster", "pool")];
    let limit = metrics
        .value("highpress_upstream_requests_limit", &of_pool)
        .unwrap();
    assert!(
        (8.0..60.0).contains(&limit),
        "a limit near what it can do: {limit}"
    );
    assert!(metrics.counter_value("highpress_upstream_requests_refused_total", &of_pool) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_five_times_saturation_what_is_passed_through_keeps_its_peak() {
    let pool = Pool::new();
    let backend = HttpBackend::start(move |_| {
        let mut steps = vec![Step::Wait(pool.wait())];
        steps.extend(ok("done"));
        steps
    })
    .await;
    let route = "match: { path_prefix: / }";
    let gateway = Gateway::start(&yaml("http1", backend.address(), route)).await;
    is_kept_busy_and_answers_in_time(gateway, "/x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_five_times_saturation_transcoded_calls_keep_their_peak() {
    let pool = Pool::new();
    let backend = Backend::start(move |_| Answer::message(b"").after(pool.wait())).await;
    let route = "transcode: { services: [counter.CounterService], profile: standard }";
    let gateway = Gateway::start(&yaml("grpc", backend.address(), route)).await;
    is_kept_busy_and_answers_in_time(gateway, "/api/v1/counter/a/like").await;
}
