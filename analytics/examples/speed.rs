//! How fast analytics counts and answers, and what a counter takes.
//!
//! `cargo run --release -p highpress-analytics --example speed -- state [KEYS]`: events into the state, the first hundred places
//! of each period, bytes for each counter; one thread, no Kafka.
//! `cargo build --release --workspace --bins && cargo run --release -p highpress-analytics --example speed -- kafka [EVENTS]`: the program on
//! a real Kafka, from the first event of a backlog to the last; CPU of the program's process alone. Needs `make setup`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_types
)]

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use highpress_analytics::event::{Batch, Event, Origin};
use highpress_analytics::state::{Over, Period, TopQuery};
use highpress_analytics::tally::Tally;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use testkit::{Http1, Kafka, Program, Running};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Clock ticks in a second, as Linux counts CPU time for programs.
const TICKS: f64 = 100.0;
const AT_ONCE: u64 = 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |default: u64| {
        arguments
            .get(1)
            .map_or(default, |text| text.parse().unwrap())
    };
    match arguments.first().map(String::as_str) {
        Some("state") => state(number(10_000_000)),
        Some("kafka") => tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(kafka(number(3_000_000))),
        _ => println!("state [KEYS] or kafka [EVENTS]"),
    }
}

fn state(keys: u64) {
    let (tally, now) = (Tally::in_memory(u64::MAX), now_ms() / 1000);
    let before = resident();
    let mut counts = vec![0_i64; usize::try_from(keys).unwrap()];
    let begun = cpu(std::process::id());
    feed(&tally, &mut counts, 0, keys, now, |at| at);
    let first = cpu(std::process::id()) - begun;
    let bytes = (resident() - before) / keys as f64 - 8.0;
    println!(
        "{keys} new counters: {:.0} events/s, {bytes:.0} bytes each",
        keys as f64 / first
    );
    // Few counters get most events, as it is with likes.
    let mut random = 1_u64;
    let mut skewed = |_| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
        (part.powi(4) * keys as f64) as u64 % keys
    };
    let begun = cpu(std::process::id());
    feed(&tally, &mut counts, keys, keys, now, &mut skewed);
    let known = cpu(std::process::id()) - begun;
    println!(
        "{keys} events of known counters: {:.0} events/s",
        keys as f64 / known
    );
    for period in [
        Period::Hour,
        Period::Day,
        Period::Week,
        Period::Month,
        Period::All,
    ] {
        let query = TopQuery {
            counter_type: "like".to_owned(),
            over: Over::Period(period),
            limit: 100,
            after: None,
        };
        let mut times: Vec<f64> = (0..200)
            .map(|_| {
                let begun = Instant::now();
                let shares = tally.top(&query, now, |_, _, _| now);
                assert_eq!(shares[0].answer.places.len(), 100);
                begun.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "top 100 of {}: median {:.0} µs, p99 {:.0} µs",
            period.name(),
            times[100],
            times[198]
        );
    }
}

/// So many events, in batches as the source makes them.
fn feed(
    tally: &Tally,
    counts: &mut [i64],
    from: u64,
    events: u64,
    now: i64,
    mut pick: impl FnMut(u64) -> u64,
) {
    let mut name = String::new();
    for start in (0..events).step_by(AT_ONCE as usize) {
        let mut batch = Batch::new(0, from + start);
        for at in start..(start + AT_ONCE).min(events) {
            let key = pick(at);
            let count = &mut counts[usize::try_from(key).unwrap()];
            *count += 1;
            name.clear();
            write!(name, "article_{key:08}").unwrap();
            batch.push(&Event {
                position: from + at,
                origin: Origin::Outbox {
                    name: "outbox",
                    sequence: from + at,
                },
                resource_id: &name,
                counter_type: "like",
                delta: 1,
                new_value: *count,
                timestamp_ms: now * 1000,
            });
        }
        tally.apply(&batch, now).unwrap();
    }
}

async fn kafka(events: u64) {
    let kafka = Kafka::start().await;
    kafka.create_topic("counter-events", 4, &[]).await;
    for (counters, label) in [(1000, "a thousand"), (100_000, "a hundred thousand")] {
        let topic = format!("events-{counters}");
        kafka.create_topic(&topic, 4, &[]).await;
        produce(&kafka, &topic, events, counters);
        let data = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let analytics = Program::new("highpress-analytics")
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args([
                "--source",
                &kafka.url(&topic),
                "--snapshots",
                "none",
                "--data",
            ])
            .arg(data.path())
            .start()
            .await;
        let (first, last) = read_all(&analytics, begun).await;
        let cpu = cpu(analytics.pid());
        println!(
            "{events} events of {label} counters: {:.0} events/s, {:.0} events per second of CPU",
            events as f64 / (last - first).as_secs_f64(),
            events as f64 / cpu
        );
        analytics.kill().await;
    }
}

/// When the first event had been read, and when all.
async fn read_all(analytics: &Running, begun: Instant) -> (Duration, Duration) {
    let mut first = None;
    loop {
        let mut admin = Http1::connect(analytics.address("admin")).await;
        let status = admin.get("/status").await.json();
        if status["counters"].as_u64() > Some(0) {
            first.get_or_insert(begun.elapsed());
        }
        if let Some(first) = first
            && status["lag"]["messages"] == 0
        {
            return (first, begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn produce(kafka: &Kafka, topic: &str, events: u64, counters: u64) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka.address().to_string())
        .set("partitioner", "murmur2_random")
        .set("compression.type", "snappy")
        .set("linger.ms", "50")
        .set("batch.size", "262144")
        .create()
        .unwrap();
    for at in 0..events {
        let resource = format!("article_{:08}", at.wrapping_mul(2_654_435_761) % counters);
        let value = format!(
            r#"{{"event_id":"0123456789abcdef-{at}","resource_id":"{resource}","counter_type":"like","delta":1,"new_value":{at},"timestamp":{},"source":"counter","outbox":"0123456789abcdef","seq":{at}}}"#,
            now_ms()
        );
        let key = format!("{resource}:like");
        let mut record = BaseRecord::to(topic).key(&key).payload(&value);
        while let Err((error, back)) = producer.send(record) {
            assert!(matches!(
                error,
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
            ));
            std::thread::park_timeout(Duration::from_millis(5));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(60)).unwrap();
}

/// Seconds of CPU that a process has taken.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS
}

/// Bytes of memory that this process has.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
