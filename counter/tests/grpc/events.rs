//! Events: each increment leaves one in the same step as its count, and reaches Kafka, whatever was in the way.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use testkit::topic::{Sum, read, sums};
use testkit::wait::{PATIENCE, eventually, within};
use testkit::{Http1, Kafka, Metrics, Redis, Response, Running};
use tokio::task::JoinSet;
use tonic::Code;

use super::setup::{Client, Key, Store, add, add_once, connect, get, on_free_ports, reason};

/// Room for a Kafka that starts on a busy machine.
const LONG: Duration = Duration::from_secs(60);

pub(crate) async fn start(store: &str, kafka: &Kafka, topic: &str, more: &[&str]) -> Running {
    on_free_ports()
        .args(["--store", store, "--events", &kafka.url(topic)])
        .args(["--redis-timeout", "500ms"])
        .args(more)
        .start()
        .await
}

async fn page(counter: &Running, path: &str) -> Response {
    let mut admin = Http1::connect(counter.address("admin")).await;
    admin.get(path).await
}

pub(crate) async fn outbox(counter: &Running) -> Value {
    let status = page(counter, "/status").await;
    let status: Value = serde_json::from_str(&status.text()).unwrap();
    status["outbox"].clone()
}

/// Waits until nothing is unsent.
pub(crate) async fn sent(counter: &Running) {
    eventually("everything to be sent", LONG, async || {
        let outbox = outbox(counter).await;
        if outbox["unsent"] == 0 {
            Ok(())
        } else {
            Err(outbox)
        }
    })
    .await;
}

fn sum(events: u64, deltas: i64, last: i64) -> Sum {
    Sum {
        events,
        deltas,
        last,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_increment_becomes_one_event() {
    let kafka = Kafka::start().await;
    for (n, store) in [Store::embedded(), Store::Redis(Redis::start().await)]
        .iter()
        .enumerate()
    {
        let topic = format!("events-{n}");
        // There is no such topic yet.
        let counter = start(&store.flag(), &kafka, &topic, &[]).await;
        let client = connect(&counter).await;
        for _ in 0..2 {
            add_once(&client, "a", "like", 2, Key::client("k"))
                .await
                .unwrap();
            add_once(&client, "a", "like", 3, Key::gateway("k"))
                .await
                .unwrap();
        }
        add(&client, "a", "like", -1).await.unwrap();
        add(&client, "b:\"é\"", "view", i64::MAX).await.unwrap();
        let over = add_once(&client, "b:\"é\"", "view", 1, Key::client("k")).await;
        assert_eq!(over.unwrap_err().code(), Code::OutOfRange);
        let mut many = JoinSet::new();
        for n in 0..300 {
            let client = client.clone();
            let name = format!("c{}", n % 7);
            many.spawn(async move { add(&client, &name, "like", 1).await.unwrap() });
        }
        many.join_all().await;
        sent(&counter).await;
        let messages = read(&kafka, &topic).await;
        assert_eq!(
            messages.len(),
            304,
            "nothing is sent twice where nothing fails"
        );
        let sums = sums(&messages);
        assert_eq!(sums["a:like"], sum(3, 4, 4));
        assert_eq!(sums["b:\"é\":view"], sum(1, i64::MAX, i64::MAX));
        let counted: u64 = (0..7).map(|n| sums[&format!("c{n}:like")].events).sum();
        assert_eq!(counted, 300);
        assert_eq!(
            kafka.offsets(&topic).await.len(),
            4,
            "made with four partitions"
        );
        assert_eq!(outbox(&counter).await["oldest_seconds"], 0);
        within("the end", LONG, counter.stop_within(LONG)).await;
    }
}

/// What is in the way of the outbox is told, and neither lost nor counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_outbox_refuses_and_drains() {
    let mut kafka = Kafka::stopped();
    for (n, store) in [Store::Redis(Redis::start().await), Store::embedded()]
        .iter()
        .enumerate()
    {
        let topic = format!("events-{n}");
        let counter = start(&store.flag(), &kafka, &topic, &["--outbox-limit", "40"]).await;
        let client = connect(&counter).await;
        for n in 0..40 {
            let key = format!("k{n}");
            add_once(&client, "a", "like", 1, Key::client(&key))
                .await
                .unwrap();
        }
        let refused = async |key: &str| {
            let refused = add_once(&client, "a", "like", 1, Key::client(key)).await;
            let error = refused.unwrap_err();
            assert_eq!(
                (error.code(), reason(&error).as_str()),
                (Code::ResourceExhausted, "OUTBOX_FULL")
            );
        };
        refused("k40").await;
        assert_eq!(
            add(&client, "a", "like", 1).await.unwrap_err().code(),
            Code::ResourceExhausted
        );
        assert!(
            add_once(&client, "a", "like", 1, Key::client("k0"))
                .await
                .unwrap()
                .1
        );
        assert_eq!(get(&client, "a", "like").await.unwrap(), 40);
        let told = outbox(&counter).await;
        assert_eq!(told["unsent"], 40);
        assert!(told["oldest_seconds"].as_u64().unwrap() > 0, "{told}");
        let metrics = Metrics::scrape(counter.address("admin")).await;
        assert_eq!(metrics.value("highpress_outbox_unsent", &[]), Some(40.0));
        let ready = page(&counter, "/readyz").await;
        assert_eq!(ready.status, 200, "Kafka is no reason not to count");
        eventually("the trouble to be told", LONG, async || {
            let told = outbox(&counter).await;
            if told["degraded"].is_string() {
                Ok(())
            } else {
                Err(told)
            }
        })
        .await;
        kafka.restart().await;
        sent(&counter).await;
        add_once(&client, "a", "like", 1, Key::client("k40"))
            .await
            .unwrap();
        sent(&counter).await;
        assert_eq!(sums(&read(&kafka, &topic).await)["a:like"], sum(41, 41, 41));
        kafka.stop().await;
    }
}

/// An event that Redis does not take has its count taken back.
#[tokio::test]
async fn a_count_without_its_event_is_none() {
    let kafka = Kafka::stopped();
    let redis = Redis::start().await;
    for shard in 0..4 {
        let stream = format!("{{highpress}}:outbox:{shard}");
        redis.command(&["SET", &stream, "mine"]).await;
    }
    redis.command(&["SET", "counter:a:like", "41"]).await;
    let counter = start(&redis.url(), &kafka, "events", &[]).await;
    let client = connect(&counter).await;
    for delta in [1, -1, i64::MIN] {
        add(&client, "a", "like", delta).await.unwrap_err();
        add_once(&client, "a", "like", delta, Key::client("k"))
            .await
            .unwrap_err();
    }
    assert_eq!(get(&client, "a", "like").await.unwrap(), 41);
    for shard in 0..4 {
        redis
            .command(&["DEL", &format!("{{highpress}}:outbox:{shard}")])
            .await;
    }
    let (answer, replayed) = add_once(&client, "a", "like", 1, Key::client("k"))
        .await
        .unwrap();
    assert_eq!((answer.current_value, replayed), (42, false));
    assert_eq!(outbox(&counter).await["unsent"], 1);
}

/// The same increment under the same key, at one instance or the other, until it is answered.
async fn until_answered(clients: &[Client], name: &str, key: &str) {
    eventually(&format!("an answer to {key}"), LONG, async || {
        let client = &clients[fastrand::usize(..clients.len())];
        let call = add_once(client, name, "like", 1, Key::client(key));
        match tokio::time::timeout(Duration::from_secs(2), call).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    })
    .await;
}

/// Two counters share a Redis; counters, Redis and Kafka are killed and stopped in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_counted_and_sent_once_through_crashes_of_anything() {
    let (mut kafka, mut redis) = (Kafka::start().await, Redis::start().await);
    kafka.create_topic("events", 4, &[]).await;
    let survivor = start(&redis.url(), &kafka, "events", &[]).await;
    let mut other = start(&redis.url(), &kafka, "events", &[]).await;
    let mut expected = HashMap::<String, i64>::new();
    for round in 0..5 {
        let clients = [connect(&survivor).await, connect(&other).await];
        let mut tasks = JoinSet::new();
        for n in 0..400 {
            let name = format!("r{}", n % 13);
            *expected.entry(format!("{name}:like")).or_default() += 1;
            let (clients, key) = (clients.clone(), format!("{round}-{n}"));
            tasks.spawn(async move { until_answered(&clients, &name, &key).await });
        }
        for _ in 0..100 {
            tasks.join_next().await;
        }
        match round {
            0 => {
                other.kill().await;
                other = start(&redis.url(), &kafka, "events", &[]).await;
            }
            1 => {
                kafka.kill().await;
                kafka.restart().await;
            }
            2 => {
                redis.kill().await;
                redis.restart().await;
            }
            3 => {
                other.freeze().await;
                tokio::time::sleep(Duration::from_secs(4)).await;
                other.thaw();
            }
            _ => {
                kafka.freeze().await;
                tokio::time::sleep(Duration::from_secs(2)).await;
                kafka.thaw();
            }
        }
        within("every call to be answered", LONG, tasks.join_all()).await;
    }
    sent(&survivor).await;
    let client = connect(&survivor).await;
    let sums = sums(&read(&kafka, "events").await);
    for (name, count) in &expected {
        let resource = name.strip_suffix(":like").unwrap();
        let counted = eventually("the count", PATIENCE, async || {
            get(&client, resource, "like").await
        })
        .await;
        assert_eq!(counted, *count, "{name} is counted once for each key");
        assert_eq!(
            sums[name],
            sum(counted.unsigned_abs(), counted, counted),
            "{name}"
        );
    }
    assert_eq!(sums.len(), expected.len());
}
