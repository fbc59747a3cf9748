//! A limit that gateways share in Redis, on a route that is transcoded: what clients are told in the shape of the
//! route, while Redis is there, while it is gone, and when it is back.

use serde_json::json;
use testkit::mesh::{self, Gateway};
use testkit::wait::PATIENCE;
use testkit::{Http1, Metrics, Redis, Response, eventually};

const PATH: &str = "/api/v1/counter/r/like";
const INCREMENT: &str = "/api/v1/counter/increment";

async fn limited(counter: std::net::SocketAddr, redis: &Redis, more: &str) -> Gateway {
    let limit = format!(
        "timeout: 2s\n    rate_limit: {{ requests: 1, per: 1h, burst: 5, store: \"{}\"{more} }}",
        redis.url()
    );
    let yaml = mesh::phase1(counter, counter).replacen("timeout: 2s", &limit, 1);
    Gateway::start(&yaml).await
}

async fn store_is(gateway: &Gateway, up: bool) {
    eventually("the state of the store", PATIENCE, async || {
        let mut admin = Http1::connect(gateway.admin()).await;
        let status = admin.get("/status").await.json();
        let is = status["rate_limit_stores"][0]["up"] == json!(up);
        is.then_some(()).ok_or(status)
    })
    .await;
}

fn is_refusal(answer: &Response) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.json()["status"], "error");
    assert_eq!(answer.json()["error"], "Too many requests");
    assert!(answer.json()["details"].is_string());
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((3590..=3600).contains(&seconds), "Retry-After: {seconds}");
}

fn is_described(answer: &Response, left: u32) {
    let policy = r#""counters";q=1;w=3600;highpress-burst=5"#;
    assert_eq!(answer.header("ratelimit-policy"), Some(policy));
    let limit = answer.header("ratelimit").unwrap_or_default();
    let expected = format!(r#""counters";r={left}"#);
    assert!(limit.starts_with(&expected), "{limit}, expected {expected}");
}

async fn increment(client: &mut Http1) -> Response {
    let body = json!({ "resource_id": "r", "counter_type": "like" });
    client.post_json(INCREMENT, &body).await
}

#[tokio::test]
async fn gateways_share_the_bucket_and_what_is_refused_is_not_counted() {
    let (counter, redis) = (mesh::counter("memory").await, Redis::start().await);
    let at = counter.address("grpc");
    let (one, two) = tokio::join!(limited(at, &redis, ""), limited(at, &redis, ""));
    store_is(&one, true).await;
    store_is(&two, true).await;
    let mut clients = [
        Http1::connect(one.http()).await,
        Http1::connect(two.http()).await,
    ];
    for turn in 0..8 {
        let answer = increment(&mut clients[turn % 2]).await;
        if turn < 5 {
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json()["data"]["current_value"], turn + 1);
            is_described(&answer, 4 - turn as u32);
        } else {
            is_refusal(&answer);
            is_described(&answer, 0);
        }
    }
    let answer = Http1::connect(one.http()).await.get(PATH).await;
    is_refusal(&answer);
    let metrics = Metrics::scrape(counter.address("admin")).await;
    let labels = [("method", "IncrementCounter")];
    let calls = metrics.counter_value("highgopress_grpc_requests_total", &labels);
    assert_eq!(calls, 5, "what is refused goes nowhere");
}

#[tokio::test]
async fn each_gateway_counts_by_itself_while_redis_is_gone_and_together_when_it_is_back() {
    let (counter, mut redis) = (mesh::counter("memory").await, Redis::start().await);
    let gateway = limited(counter.address("grpc"), &redis, "").await;
    store_is(&gateway, true).await;
    let mut client = Http1::connect(gateway.http()).await;
    for left in [4, 3] {
        let answer = client.get(PATH).await;
        assert_eq!(answer.status, 200);
        is_described(&answer, left);
    }
    redis.kill().await;
    for left in (0..5).rev() {
        let answer = client.get(PATH).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        is_described(&answer, left);
    }
    is_refusal(&client.get(PATH).await);
    store_is(&gateway, false).await;
    redis.restart().await;
    store_is(&gateway, true).await;
    // What was counted before is still known: two of five.
    for left in (0..3).rev() {
        let answer = client.get(PATH).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        is_described(&answer, left);
    }
    is_refusal(&client.get(PATH).await);
    let metrics = Metrics::scrape(gateway.admin()).await;
    let route = [("route", "counters")];
    let value = |name| metrics.counter_value(name, &route);
    // Six while it was gone; the last one may have had to wait for an answer for too long on a busy machine.
    let away = value("highpress_rate_limit_away_decisions_total");
    assert!(matches!(away, 6 | 7), "{away} were decided without it");
    assert_eq!(value("highpress_rate_limited_requests_total"), 2);
}

#[tokio::test]
async fn while_redis_is_gone_a_route_may_refuse_or_let_all_in() {
    let counter = mesh::counter("memory").await;
    let redis = Redis::stopped();
    for (choice, status) in [("allow", 200), ("refuse", 503)] {
        let more = format!(", when_away: {choice}");
        let gateway = limited(counter.address("grpc"), &redis, &more).await;
        store_is(&gateway, false).await;
        let mut client = Http1::connect(gateway.http()).await;
        for _ in 0..8 {
            let answer = client.get(PATH).await;
            assert_eq!(answer.status, status, "{choice}: {}", answer.text());
            assert_eq!(answer.header("ratelimit"), None, "nothing is known");
            assert!(answer.header("ratelimit-policy").is_some());
            if status == 503 {
                assert_eq!(answer.json()["status"], "error");
                assert_eq!(answer.header("retry-after"), Some("1"));
            }
        }
    }
}
