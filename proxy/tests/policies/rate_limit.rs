//! Rate limits: how many pass, what the rest is told, which requests share a bucket, and what holds while Redis is away.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use testkit::h2c::H2c;
use testkit::http_backend::ok;
use testkit::mesh::{self, Gateway};
use testkit::wait::PATIENCE;
use testkit::{Http1, HttpBackend, Metrics, Redis, Response, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::Instant;

/// A gateway whose only route passes everything to `backend`, within this limit.
async fn limited(backend: SocketAddr, limit: &str) -> Gateway {
    Gateway::start(&yaml(backend, limit)).await
}

fn yaml(backend: SocketAddr, limit: &str) -> String {
    format!(
        r#"
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
clusters:
  - {{ name: old, protocol: http1, endpoints: {{ static: ["{backend}"] }} }}
routes:
  - {{ name: all, match: {{ path_prefix: / }}, to: old, rate_limit: {{ {limit} }} }}
"#
    )
}

async fn statuses(client: &mut Http1, path: &str, requests: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..requests {
        statuses.push(client.get(path).await.status);
    }
    statuses
}

fn is_refusal(answer: &Response, retry_after: std::ops::RangeInclusive<u64>) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(retry_after.contains(&seconds), "Retry-After: {seconds}");
    let body = answer.json();
    assert_eq!(body["code"], 8);
    assert_eq!(body["details"][0]["reason"], "RATE_LIMITED");
    assert_eq!(body["details"][0]["domain"], "highpress");
    assert!(answer.header("x-request-id").is_some());
}

#[tokio::test]
async fn at_rest_exactly_the_burst_passes_and_the_rest_is_told_when_to_come() {
    let backend = HttpBackend::start(|_| ok("fine")).await;
    let gateway = limited(backend.address(), "requests: 1, per: 60s, burst: 5").await;
    let mut client = Http1::connect(gateway.http()).await;
    for left in (0..5).rev() {
        let answer = client.get("/a").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "fine"));
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some(r#""all";q=1;w=60;highpress-burst=5"#)
        );
        let limit = answer.header("ratelimit").unwrap();
        assert!(
            limit.starts_with(&format!(r#""all";r={left};t="#)),
            "{limit}"
        );
    }
    for _ in 0..3 {
        let refused = client.get("/b").await;
        is_refusal(&refused, 55..=60);
        let limit = refused.header("ratelimit").unwrap();
        assert!(limit.starts_with(r#""all";r=0;t="#), "{limit}");
        assert!(refused.header("ratelimit-policy").is_some());
    }
    let by_stream = H2c::connect(gateway.http()).await;
    let refused = by_stream.request("GET", "/c", &[], b"").await;
    is_refusal(&refused, 55..=60);
    assert_eq!(backend.requests(), 5, "a refused request goes nowhere");
    let mut admin = Http1::connect(gateway.admin()).await;
    let explained = admin.get("/explain?method=GET&path=/a").await.text();
    let line =
        "rate limit 1 requests in 60s, 5 at once, for the whole route; counted here; more get 429";
    assert!(explained.contains(line), "{explained}");
    let metrics = Metrics::scrape(gateway.admin()).await;
    let limited =
        metrics.counter_value("highpress_rate_limited_requests_total", &[("route", "all")]);
    assert_eq!(limited, 4);
}

#[tokio::test]
async fn many_clients_at_once_get_the_burst_and_no_more() {
    let backend = HttpBackend::start(|_| ok("")).await;
    let gateway = limited(backend.address(), "requests: 1, per: 1h, burst: 50").await;
    let clients = (0..20).map(|_| {
        let address = gateway.http();
        tokio::spawn(async move { statuses(&mut Http1::connect(address).await, "/", 10).await })
    });
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.unwrap());
    }
    let passed = all.iter().filter(|status| **status == 200).count();
    let refused = all.iter().filter(|status| **status == 429).count();
    assert_eq!((passed, refused, backend.requests()), (50, 150, 50));
}

#[tokio::test]
async fn what_was_used_flows_back_at_the_rate() {
    let backend = HttpBackend::start(|_| ok("")).await;
    let gateway = limited(backend.address(), "requests: 20, per: 1s, burst: 2").await;
    let mut client = Http1::connect(gateway.http()).await;
    let (began, mut passed) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(2) {
        let answer = client.get("/").await;
        match answer.status {
            200 => passed += 1,
            _ => is_refusal(&answer, 1..=1),
        }
    }
    // Two at once and one every 50 ms; a machine that is busy elsewhere misses some.
    let most = 2 + began.elapsed().as_millis() / 50;
    assert!((most / 2..=most).contains(&passed), "{passed} of {most}");
}

#[tokio::test]
async fn a_refused_request_need_not_send_its_body() {
    let backend = HttpBackend::start(|_| ok("")).await;
    let gateway = limited(backend.address(), "requests: 1, per: 1h").await;
    let mut client = Http1::connect(gateway.http()).await;
    assert_eq!(client.get("/").await.status, 200);
    client
        .send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n")
        .await;
    let answer = client.try_response(false).await.expect("an answer");
    is_refusal(&answer, 3590..=3600);
}

#[tokio::test]
async fn header_and_path_variable_tell_buckets_apart_in_the_shape_of_the_route() {
    let counter = mesh::counter("memory").await;
    let yaml = mesh::phase1(counter.address("grpc"), counter.address("grpc")).replacen(
        "timeout: 2s",
        "timeout: 2s\n    rate_limit: { requests: 2, per: 1h, key: [\"header:X-User\", \"path:resource_id\"] }",
        1,
    );
    let gateway = Gateway::start(&yaml).await;
    let mut client = Http1::connect(gateway.http()).await;
    let mut ask = async |path: &str, user: Option<&str>| {
        let headers: Vec<_> = user.map(|user| ("x-user", user)).into_iter().collect();
        client.request("GET", path, &headers, None).await
    };
    let (a, b) = ("/api/v1/counter/a/like", "/api/v1/counter/b/like");
    for (path, user, statuses) in [
        (a, Some("anna"), [200, 200, 429]),
        (a, Some("bert"), [200, 200, 429]),
        (b, Some("anna"), [200, 200, 429]),
        ("/api/v1/counter/%61/view", Some("anna"), [429, 429, 429]),
        (a, None, [200, 200, 429]),
        (a, Some(""), [200, 200, 429]),
    ] {
        for expected in statuses {
            let answer = ask(path, user).await;
            assert_eq!(
                answer.status,
                expected,
                "{path} {user:?}: {}",
                answer.text()
            );
            assert!(answer.header("ratelimit").is_some());
            if expected == 429 {
                let body = answer.json();
                assert_eq!(body["status"], "error");
                assert_eq!(body["error"], "Too many requests");
                assert!(body["details"].is_string());
                assert!(answer.header("retry-after").is_some());
            }
        }
    }
    let health = client.get("/api/v1/health").await;
    assert_eq!(health.status, 200, "pages of the gateway have no limit");
}

/// A request from that address of the loopback.
async fn status_from(source: [u8; 4], gateway: SocketAddr) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    let mut stream = socket.connect(gateway).await.unwrap();
    let request =
        b"GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 10.0.0.1\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer[9..12].to_owned()
}

#[tokio::test]
async fn an_address_is_that_of_the_connection() {
    let backend = HttpBackend::start(|_| ok("")).await;
    let gateway = limited(backend.address(), "requests: 2, per: 1h, key: [address]").await;
    for source in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(status_from(source, gateway.http()).await);
        }
        assert_eq!(statuses, ["200", "200", "429"], "{source:?}");
    }
}

#[tokio::test]
async fn a_reload_refills_nothing() {
    let backend = HttpBackend::start(|_| ok("")).await;
    let limit = "requests: 2, per: 1h, burst: 3";
    let gateway = limited(backend.address(), limit).await;
    let mut client = Http1::connect(gateway.http()).await;
    assert_eq!(statuses(&mut client, "/", 4).await, [200, 200, 200, 429]);
    gateway.configure(&format!("{}    timeout: 3s\n", yaml(backend.address(), limit).replace(
        "- { name: all, match: { path_prefix: / }, to: old, rate_limit: { requests: 2, per: 1h, burst: 3 } }\n",
        "- name: all\n    match: { path_prefix: / }\n    to: old\n    rate_limit: { requests: 2, per: 1h, burst: 3 }\n",
    )));
    gateway.program.reload();
    eventually("the reload", PATIENCE, async || {
        let metrics = Metrics::scrape(gateway.admin()).await;
        let count =
            metrics.counter_value("highpress_config_reloads_total", &[("result", "applied")]);
        (count == 1).then_some(()).ok_or(count)
    })
    .await;
    assert_eq!(client.get("/").await.status, 429);
}

// === with Redis ===

async fn global(backend: SocketAddr, redis: &Redis, more: &str) -> Gateway {
    let limit = format!(
        "requests: 1, per: 1h, burst: 6, store: \"{}\"{more}",
        redis.url()
    );
    let gateway = limited(backend, &limit).await;
    eventually("readiness", PATIENCE, async || {
        let ready = Http1::connect(gateway.admin()).await.get("/readyz").await;
        (ready.status == 200).then_some(()).ok_or(ready.text())
    })
    .await;
    gateway
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

async fn away_decisions(gateway: &Gateway) -> u64 {
    let metrics = Metrics::scrape(gateway.admin()).await;
    metrics.counter_value(
        "highpress_rate_limit_away_decisions_total",
        &[("route", "all")],
    )
}

#[tokio::test]
async fn gateways_count_together_in_redis() {
    let backend = HttpBackend::start(|_| ok("")).await;
    let redis = Redis::start().await;
    let (one, two) = tokio::join!(
        global(backend.address(), &redis, ", key: [\"header:x-user\"]"),
        global(backend.address(), &redis, ", key: [\"header:x-user\"]")
    );
    let mut clients = [
        Http1::connect(one.http()).await,
        Http1::connect(two.http()).await,
    ];
    let mut statuses = Vec::new();
    for turn in 0..8 {
        let headers = [("x-user", "secret-token")];
        let answer = clients[turn % 2].request("GET", "/", &headers, None).await;
        if turn < 6 {
            let limit = answer.header("ratelimit").unwrap();
            assert!(
                limit.starts_with(&format!(r#""all";r={};t="#, 5 - turn)),
                "{limit}"
            );
        } else {
            is_refusal(&answer, 3590..=3600);
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 429, 429]);
    assert_eq!(clients[0].get("/").await.status, 200, "another key");
    assert_eq!(backend.requests(), 7);
    let keys = redis
        .command(&[
            "EVAL",
            "return table.concat(redis.call('KEYS', '*'), ' ')",
            "0",
        ])
        .await;
    assert!(
        keys.starts_with("highpress:rate:all:") && !keys.contains("secret"),
        "{keys}"
    );
    let expires = redis
        .command(&[
            "EVAL",
            "return redis.call('PTTL', redis.call('KEYS', '*')[1])",
            "0",
        ])
        .await;
    let expires: i64 = expires.trim_start_matches(':').parse().unwrap();
    assert!(expires > 0, "a bucket goes when it is full: {expires}");
    assert_eq!(away_decisions(&one).await + away_decisions(&two).await, 0);
}

#[tokio::test]
async fn a_script_that_redis_has_forgotten_is_loaded_again() {
    let backend = HttpBackend::start(|_| ok("")).await;
    let redis = Redis::start().await;
    let gateway = global(backend.address(), &redis, "").await;
    let mut client = Http1::connect(gateway.http()).await;
    assert_eq!(statuses(&mut client, "/", 3).await, [200; 3]);
    assert_eq!(redis.command(&["SCRIPT", "FLUSH", "SYNC"]).await, "+OK");
    assert_eq!(statuses(&mut client, "/", 4).await, [200, 200, 200, 429]);
    assert_eq!(away_decisions(&gateway).await, 0);
}

#[tokio::test]
async fn while_redis_is_gone_each_gateway_counts_by_itself() {
    let backend = HttpBackend::start(|_| ok("")).await;
    let mut redis = Redis::start().await;
    let gateway = global(backend.address(), &redis, "").await;
    let mut client = Http1::connect(gateway.http()).await;
    assert_eq!(statuses(&mut client, "/", 2).await, [200; 2]);
    redis.kill().await;
    let began = Instant::now();
    let answers = statuses(&mut client, "/", 8).await;
    assert_eq!(
        answers,
        [200, 200, 200, 200, 200, 200, 429, 429],
        "a bucket of its own"
    );
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(away_decisions(&gateway).await, 8);
    store_is(&gateway, false).await;
    gateway
        .program
        .line_with("the rate limit store is away")
        .await;
    let told = |text| {
        gateway
            .program
            .logs()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    };
    assert_eq!(
        told("the rate limit store is away"),
        1,
        "{}",
        gateway.program.logs()
    );
    redis.restart().await;
    store_is(&gateway, true).await;
    let back = "the rate limit store is back";
    gateway.program.line_with(back).await;
    assert_eq!(told(back), 1);
    // What was acknowledged before is still known: two of six.
    let answers = statuses(&mut client, "/", 5).await;
    assert_eq!(answers, [200, 200, 200, 200, 429]);
    assert_eq!(away_decisions(&gateway).await, 8);
}

#[tokio::test]
async fn a_redis_that_hangs_holds_nobody_up() {
    let backend = HttpBackend::start(|_| ok("")).await;
    let redis = Redis::start().await;
    let gateway = global(backend.address(), &redis, ", when_away: allow").await;
    let mut client = Http1::connect(gateway.http()).await;
    assert_eq!(statuses(&mut client, "/", 2).await, [200; 2]);
    redis.freeze().await;
    let began = Instant::now();
    let answer = client.get("/").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("ratelimit-policy").is_some() && answer.header("ratelimit").is_none());
    let first = began.elapsed();
    assert!(
        first < Duration::from_secs(3),
        "the first one waits a little: {first:?}"
    );
    let began = Instant::now();
    assert_eq!(statuses(&mut client, "/", 50).await, [200; 50]);
    let rest = began.elapsed();
    assert!(
        rest < Duration::from_secs(2),
        "the others do not wait: {rest:?}"
    );
    redis.thaw();
    store_is(&gateway, true).await;
    // Two of six were used; the one that hung may have reached Redis in the end.
    let answers = statuses(&mut client, "/", 10).await;
    let passed = answers.iter().filter(|status| **status == 200).count();
    assert!((3..=4).contains(&passed), "{answers:?}");
}

#[tokio::test]
async fn refusing_while_redis_is_away_is_a_choice_and_says_whose_fault_it_is() {
    let backend = HttpBackend::start(|_| ok("")).await;
    let redis = Redis::stopped();
    let gateway = global(backend.address(), &redis, ", when_away: refuse").await;
    let mut client = Http1::connect(gateway.http()).await;
    let answer = client.get("/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        answer.json()["details"][0]["reason"],
        "RATE_LIMIT_UNAVAILABLE"
    );
    assert_eq!(backend.requests(), 0);
}
