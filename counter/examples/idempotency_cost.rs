//! What idempotency keys cost: CPU of an increment without and with one, and the bytes that a key takes, in each store.
//!
//! `cargo run --release -p highpress-counter --example idempotency_cost`. In one process without gRPC, so that the difference is
//! the stores' own; keys are 36 characters, counters about 17. Needs `redis-server` on the PATH.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use highpress_counter::id::CounterId;
use highpress_counter::idempotency::{IdempotencyKey, Origin, Term, Terms};
use highpress_counter::store::embedded::Events;
use highpress_counter::store::redis::RedisOptions;
use highpress_counter::store::{EmbeddedStore, Increment, MemoryStore, RedisStore, Store};
use service_kit::Readiness;
use testkit::Redis;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Callers at a time.
const CALLERS: usize = 256;
const COUNTERS: usize = 1000;
/// Clock ticks in a second, as Linux counts CPU time for programs.
const TICKS: f64 = 100.0;

/// Room for all keys of a run.
fn terms() -> Terms {
    let term = Term {
        retention: Duration::from_secs(3600),
        memory: 8 << 30,
    };
    Terms {
        client: term,
        gateway: term,
    }
}

/// Seconds of CPU that this process has used.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS
}

/// Bytes of memory that this process has.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096.0
}

fn size_of(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_of(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// A number out of Redis's `INFO`.
async fn info(redis: &Redis, section: &str, field: &str) -> f64 {
    let text = redis.command(&["INFO", section]).await;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().trim().parse().unwrap()
}

/// Increments `total` times, each under a key of its own if `keys`; CPU of this process for each, in microseconds.
async fn run(store: &Arc<dyn Store>, total: usize, keys: bool) -> f64 {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = cpu();
    let mut tasks = JoinSet::new();
    for _ in 0..CALLERS {
        let (store, next) = (store.clone(), next.clone());
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= total {
                    return;
                }
                // Made either way, so that making it is no part of the difference.
                let key = format!("8e03-{:031x}", fastrand::u128(..) >> 4);
                let key = keys.then(|| IdempotencyKey::new(&key, Origin::Client).unwrap());
                let counter =
                    CounterId::new(&format!("article_{:04}", n % COUNTERS), "like").unwrap();
                let increment = Increment {
                    counter,
                    delta: 1,
                    key,
                };
                store.increment(increment).await.unwrap();
                tokio::task::consume_budget().await;
            }
        });
    }
    tasks.join_all().await;
    (cpu() - begun) / total as f64 * 1e6
}

async fn memory() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(terms()));
    let total = 2_000_000;
    let plain = run(&store, total, false).await;
    let before = resident();
    let once = run(&store, total, true).await;
    let bytes = (resident() - before) / total as f64;
    let reckoned = store.remembered()[0] as f64 / total as f64;
    println!(
        "memory    {plain:8.2} {once:8.2} {:6.2}x {bytes:8.0} {reckoned:8.0}",
        once / plain
    );
}

async fn embedded() {
    let total = 300_000;
    let directory = tempfile::tempdir().unwrap();
    let open = EmbeddedStore::open(directory.path(), Events::Off, terms(), Readiness::new());
    let store: Arc<dyn Store> = Arc::new(open.await.unwrap());
    let plain = run(&store, total, false).await;
    let before = size_of(directory.path());
    let once = run(&store, total, true).await;
    let bytes = size_of(directory.path()).saturating_sub(before) as f64 / total as f64;
    let reckoned = store.remembered()[0] as f64 / total as f64;
    println!(
        "embedded  {plain:8.2} {once:8.2} {:6.2}x {bytes:8.0} {reckoned:8.0}",
        once / plain
    );
}

async fn redis() {
    let total = 300_000;
    let server = Redis::start().await;
    let readiness = Readiness::new();
    let target = server.url().parse().unwrap();
    let options = RedisOptions {
        timeout: Duration::from_secs(10),
        keys: terms(),
        ..RedisOptions::default()
    };
    let store = RedisStore::start(target, options, readiness.clone());
    let store: Arc<dyn Store> = Arc::new(store);
    readiness.ready().await;
    let used = async || {
        info(&server, "cpu", "used_cpu_user").await + info(&server, "cpu", "used_cpu_sys").await
    };
    let begun = used().await;
    let plain = run(&store, total, false).await;
    let between = used().await;
    let before = info(&server, "memory", "used_memory").await;
    let once = run(&store, total, true).await;
    let ended = used().await;
    let bytes = (info(&server, "memory", "used_memory").await - before) / total as f64;
    let reckoned = store.remembered()[0] as f64 / total as f64;
    println!(
        "redis     {plain:8.2} {once:8.2} {:6.2}x {bytes:8.0} {reckoned:8.0}",
        once / plain
    );
    let each = |seconds: f64| seconds / total as f64 * 1e6;
    let (plain, once) = (each(between - begun), each(ended - between));
    println!("  server  {plain:8.2} {once:8.2} {:6.2}x", once / plain);
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    println!("store     µs plain  µs once  ratio  bytes/key  reckoned");
    runtime.block_on(async {
        memory().await;
        embedded().await;
        redis().await;
    });
}
