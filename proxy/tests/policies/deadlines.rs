//! One budget of time from the edge to the backend: each hop subtracts what it used, and stops when it is spent or
//! nobody waits any more. The services are the real ones.

use prost::Message as _;
use proto::analytics::TopCountersRequest;
use proto::counter::{IncrementRequest, IncrementResponse};
use testkit::echo::Echo;
use testkit::h2c::H2c;
use testkit::{Http1, Metrics, Program, Redis, Running, eventually, mesh};
use tokio::time::Instant;

use super::setup::{MS, cluster, counted, gateway};

const READ: &str = "/api/v1/counter/a/like";

fn counters(more: &str) -> String {
    format!(
        "{{ name: counters, match: {{ path_prefix: /api/v1/counter/ }}, transcode: {{ services: [counter.CounterService] }}, to: counter{more} }}"
    )
}

async fn echo() -> Echo {
    Echo::with(proto::DESCRIPTOR_SET, |method, _| {
        Ok(prost_reflect::DynamicMessage::new(method.output()))
    })
    .await
}

/// Whether so many calls of the counter service have ended so, or do within a second.
async fn has_ended(counter: &Running, code: &str, wanted: u64) -> bool {
    let patience = Instant::now() + std::time::Duration::from_secs(1);
    loop {
        let metrics = Metrics::scrape(counter.address("admin")).await;
        let labels = [("method", "GetCounter"), ("status_code", code)];
        let seen = metrics.counter_value("highgopress_grpc_requests_total", &labels);
        if seen >= wanted || Instant::now() > patience {
            return seen >= wanted;
        }
        tokio::time::sleep(10 * MS).await;
    }
}

/// A client asks, and leaves while its call is under way.
async fn leave(gateway: &mesh::Gateway) {
    let mut leaves = Http1::connect(gateway.http()).await;
    let request = format!("GET {READ} HTTP/1.1\r\nhost: a\r\n\r\n");
    leaves.send(request.as_bytes()).await;
    let in_flight = [("cluster", "counter")];
    let patience = std::time::Duration::from_secs(5);
    eventually("the call to be under way", patience, || async {
        let metrics = Metrics::scrape(gateway.admin()).await;
        match metrics.value("highpress_upstream_requests_in_flight", &in_flight) {
            Some(1.0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn each_hop_subtracts_what_it_used() {
    let backend = echo().await;
    let clusters = [cluster("counter", "grpc", &[backend.address], "")];
    let routes = [counters(
        ", timeout: 3s, fault: { delay: { duration: 400ms }, header: x-slow }",
    )];
    let gateway = gateway(&clusters, &routes).await;
    let mut client = Http1::connect(gateway.http()).await;
    for (headers, most) in [
        (vec![], 3_000_000),
        (vec![("x-request-timeout", "2s")], 2_000_000),
        (vec![("grpc-timeout", "1500m")], 1_500_000),
        (vec![("x-request-timeout", "9s")], 3_000_000),
        (
            vec![("x-request-timeout", "2s"), ("x-slow", "1")],
            1_600_000,
        ),
    ] {
        assert_eq!(
            client.request("GET", READ, &headers, None).await.status,
            200
        );
        let received = backend.received();
        let left = received.last().unwrap().headers["grpc-timeout"]
            .to_str()
            .unwrap()
            .to_owned();
        let left: u64 = left.strip_suffix('u').expect(&left).parse().expect(&left);
        assert!(
            (most - 700_000..=most).contains(&left),
            "{headers:?}: {left} of {most}"
        );
    }
}

#[tokio::test]
async fn the_counter_stops_when_the_time_is_spent_or_the_client_has_gone() {
    let redis = Redis::start().await;
    let counter = mesh::counter(&redis.url()).await;
    let clusters = [cluster("counter", "grpc", &[counter.address("grpc")], "")];
    let gateway = gateway(&clusters, &[counters("")]).await;
    let mut client = Http1::connect(gateway.http()).await;
    assert_eq!(client.get(READ).await.status, 200);
    redis.freeze().await;

    let began = Instant::now();
    let hurried = [("x-request-timeout", "300ms")];
    let late = client.request("GET", READ, &hurried, None).await;
    assert_eq!(late.status, 504, "{}", late.text());
    assert!(
        (295 * MS..4000 * MS).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    // Either clock may strike first: the service says so, or its call is given up.
    eventually(
        "the call to end at the counter",
        std::time::Duration::from_secs(2),
        || async {
            let metrics = Metrics::scrape(counter.address("admin")).await;
            let of = |code| {
                let labels = [("method", "GetCounter"), ("status_code", code)];
                metrics.counter_value("highgopress_grpc_requests_total", &labels)
            };
            match of("DEADLINE_EXCEEDED") + of("CANCELLED") {
                1 => Ok(()),
                other => Err(format!("{other} have ended")),
            }
        },
    )
    .await;
    let before = {
        let metrics = Metrics::scrape(counter.address("admin")).await;
        let labels = [("method", "GetCounter"), ("status_code", "CANCELLED")];
        metrics.counter_value("highgopress_grpc_requests_total", &labels)
    };

    // A call that is given up before the counter has read it never was one there: clients leave until one was.
    let cancelled = [("cluster", "counter"), ("outcome", "cancelled")];
    let mut left = 0;
    loop {
        leave(&gateway).await;
        left += 1;
        counted(
            &gateway,
            "highpress_upstream_attempts_total",
            &cancelled,
            left,
        )
        .await;
        if has_ended(&counter, "CANCELLED", before + 1).await {
            break;
        }
        assert!(
            left < 5,
            "{left} clients have left, and the counter goes on"
        );
    }
    redis.thaw();
}

#[tokio::test]
async fn a_call_whose_time_is_up_before_it_begins_does_nothing() {
    let counter = mesh::counter("memory").await;
    let client = H2c::connect(counter.address("grpc")).await;
    let increment = IncrementRequest {
        resource_id: "a".to_owned(),
        counter_type: "like".to_owned(),
        ..IncrementRequest::default()
    };
    let increment = increment.encode_to_vec();
    let path = "/counter.CounterService/IncrementCounter";
    let late = client
        .grpc(path, &[("grpc-timeout", "0n")], &increment)
        .await;
    assert_eq!(late.code, 4, "{}", late.message);
    let first = client
        .grpc(path, &[("grpc-timeout", "5S")], &increment)
        .await;
    let first = IncrementResponse::decode(first.body).unwrap();
    assert_eq!(first.current_value, 1, "the late one was not counted");
}

#[tokio::test]
async fn analytics_tells_a_spent_deadline_by_its_code() {
    let data = tempfile::tempdir().unwrap();
    let here = [
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--data",
    ];
    let program = Program::new("highpress-analytics")
        .args(here)
        .arg(data.path().join("analytics"));
    let analytics = program.start().await;
    let client = H2c::connect(analytics.address("grpc")).await;
    let request = TopCountersRequest {
        counter_type: "like".to_owned(),
        ..TopCountersRequest::default()
    };
    let request = request.encode_to_vec();
    for (timeout, code) in [("0n", 4), ("900u", 4), ("5S", 0), ("5s", 3)] {
        let path = "/analytics.AnalyticsService/GetTopCounters";
        let got = client
            .grpc(path, &[("grpc-timeout", timeout)], &request)
            .await;
        assert_eq!(got.code, code, "{timeout}: {}", got.message);
    }
}
