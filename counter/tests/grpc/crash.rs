//! kill -9 in the middle of load: what was acknowledged is there, and nothing is there twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use testkit::wait::{PATIENCE, eventually};
use testkit::{Redis, Running};
use tokio::task::JoinSet;

use super::setup::{Client, Store, add, connect, get, start};

const COUNTERS: usize = 4;
const TASKS: usize = 32;

/// What callers know of one counter.
#[derive(Default)]
struct Tally {
    sent: AtomicI64,
    acknowledged: AtomicI64,
}

type Tallies = Arc<[Tally; COUNTERS]>;

/// Increments until the first error; what was sent and acknowledged is in the tallies.
fn load(clients: &[Client], tallies: &Tallies) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let client = clients[task % clients.len()].clone();
        let tallies = tallies.clone();
        tasks.spawn(async move {
            let tally = &tallies[task % COUNTERS];
            let resource = format!("r{}", task % COUNTERS);
            loop {
                tally.sent.fetch_add(1, Ordering::SeqCst);
                match add(&client, &resource, "like", 1).await {
                    Ok(_) => tally.acknowledged.fetch_add(1, Ordering::SeqCst),
                    Err(_) => return,
                };
            }
        });
    }
    tasks
}

async fn acknowledged_more_than(tallies: &Tallies, than: i64) {
    let what = format!("{than} acknowledged increments");
    eventually(&what, PATIENCE, async || {
        let sum: i64 = tallies
            .iter()
            .map(|tally| tally.acknowledged.load(Ordering::SeqCst))
            .sum();
        if sum > than { Ok(()) } else { Err(sum) }
    })
    .await;
}

async fn check(counter: &Running, tallies: &Tallies) {
    let client = connect(counter).await;
    for (n, tally) in tallies.iter().enumerate() {
        let count = get(&client, &format!("r{n}"), "like")
            .await
            .expect("the store is back");
        let (sent, acknowledged) = (
            tally.sent.load(Ordering::SeqCst),
            tally.acknowledged.load(Ordering::SeqCst),
        );
        assert!(
            acknowledged <= count,
            "r{n}: {acknowledged} acknowledged, but only {count} counted"
        );
        assert!(count <= sent, "r{n}: {count} counted, but only {sent} sent");
        // From here on both are known: the next round starts with what is really there.
        tally.sent.store(count, Ordering::SeqCst);
        tally.acknowledged.store(count, Ordering::SeqCst);
    }
}

async fn clients(counter: &Running) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(connect(counter).await);
    }
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_killed_under_load_keeps_what_it_acknowledged() {
    for store in [Store::embedded(), Store::Redis(Redis::start().await)] {
        let tallies = Tallies::default();
        let mut counter = start(&store).await;
        for round in 1..=4 {
            let tasks = load(&clients(&counter).await, &tallies);
            let before: i64 = tallies
                .iter()
                .map(|tally| tally.acknowledged.load(Ordering::SeqCst))
                .sum();
            acknowledged_more_than(&tallies, before + round * 300).await;
            counter.kill().await;
            tasks.join_all().await;
            counter = start(&store).await;
            check(&counter, &tallies).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_under_load_loses_and_doubles_nothing() {
    let mut redis = Redis::start().await;
    let counter = super::setup::on_free_ports()
        .args(["--store", &redis.url()])
        .start()
        .await;
    let tallies = Tallies::default();
    for _ in 0..3 {
        let clients = clients(&counter).await;
        let tasks = load(&clients, &tallies);
        let before: i64 = tallies
            .iter()
            .map(|tally| tally.acknowledged.load(Ordering::SeqCst))
            .sum();
        acknowledged_more_than(&tallies, before + 500).await;
        redis.kill().await;
        tokio::time::timeout(Duration::from_secs(10), tasks.join_all())
            .await
            .expect("calls fail instead of hanging");
        redis.restart().await;
        eventually("the counter to find Redis again", PATIENCE, async || {
            get(&clients[0], "r0", "like").await
        })
        .await;
        check(&counter, &tallies).await;
    }
}
