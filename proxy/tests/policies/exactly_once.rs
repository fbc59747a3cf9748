//! Increments whose first try is lost on the way back: the gateway tries again, and the real counter counts once.

use testkit::mesh::Gateway;
use testkit::wait::{PATIENCE, within};
use testkit::{Http1, Program, Redis, Running, eventually};
use tokio::task::JoinSet;

use super::support::{PATH, TRANSCODED, count, gateway, grpc};

const INCREMENT: &str = "/api/v1/counter/increment";
const BODY: &[u8] = br#"{"resource_id":"r","counter_type":"like"}"#;
/// Tries until well after Redis goes on.
const RETRIES: &str =
    "    to: counter\n    timeout: 15s\n    retry: { attempts: 10, per_try_timeout: 2s }\n";

/// A counter on a Redis that can be stopped, and a gateway that retries in front of it.
struct Mesh {
    redis: Redis,
    _counter: Running,
    gateway: Gateway,
}

impl Mesh {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let counter = Program::new("highpress-counter")
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--store", &redis.url(), "--redis-timeout", "300ms"])
            .start()
            .await;
        let cluster = grpc("counter", counter.address("grpc")).replace(
            " }\n",
            ", retry_budget: { ratio: 100%, min_per_second: 1000 } }\n",
        );
        let gateway = gateway(&[cluster], &format!("{TRANSCODED}{RETRIES}")).await;
        Self {
            redis,
            _counter: counter,
            gateway,
        }
    }

    /// Increments sent at the same time, each on a connection of its own.
    fn increments(
        &self,
        number: usize,
        headers: &'static [(&str, &str)],
    ) -> JoinSet<Option<String>> {
        let mut calls = JoinSet::new();
        for _ in 0..number {
            let address = self.gateway.http();
            calls.spawn(async move {
                let mut client = Http1::connect(address).await;
                let answer = client.request("POST", INCREMENT, headers, Some(BODY)).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                answer.header("idempotency-replayed").map(str::to_owned)
            });
        }
        calls
    }

    /// Until some try was answered that nobody knows what became of.
    async fn retried(&self) {
        eventually("a retry", PATIENCE, async || {
            let labels = [("cluster", "counter"), ("reason", "unavailable")];
            match count(&self.gateway, "highpress_upstream_retries_total", &labels).await {
                0 => Err("none yet"),
                _ => Ok(()),
            }
        })
        .await;
    }

    async fn counted(&self) -> u64 {
        let mut client = Http1::connect(self.gateway.http()).await;
        let answer = client.request("GET", PATH, &[], None).await;
        answer.json()["data"]["current_value"].as_u64().unwrap()
    }
}

#[tokio::test]
async fn a_retry_under_the_gateways_key_counts_once_and_is_no_replay() {
    let mesh = Mesh::start().await;
    mesh.redis.freeze().await;
    let calls = mesh.increments(20, &[]);
    mesh.retried().await;
    mesh.redis.thaw();
    let answers = within("the answers", PATIENCE, calls.join_all()).await;
    assert_eq!(answers, vec![None; 20], "nobody repeated anything");
    assert_eq!(mesh.counted().await, 20);
}

#[tokio::test]
async fn a_clients_key_stays_its_own_through_retries() {
    let mesh = Mesh::start().await;
    mesh.redis.freeze().await;
    let calls = mesh.increments(5, &[("idempotency-key", "one")]);
    mesh.retried().await;
    mesh.redis.thaw();
    within("the answers", PATIENCE, calls.join_all()).await;
    assert_eq!(mesh.counted().await, 1, "five requests with one key");
    let again = mesh.increments(1, &[("idempotency-key", "one")]);
    let again = within("the answer", PATIENCE, again.join_all()).await;
    assert_eq!(again, [Some("true".to_owned())]);
}
