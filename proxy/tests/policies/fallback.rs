//! Fallback clusters: used while nobody can have executed the request, and for nothing else.

use std::time::Duration;

use testkit::backend::{Answer, Backend};
use testkit::http_backend::{HttpBackend, Step, answer};
use testkit::{Http1, eventually};

use super::support::{
    PASSED, PATH, TRANSCODED, admin, closed, count, gateway, get, grpc, http, named,
};

const FALLS_BACK: &str = "    to: new\n    fallback: [monolith]\n";

/// A monolith that answers what it got.
async fn telling() -> HttpBackend {
    HttpBackend::start(|request| {
        let seen = format!(
            "{} {}",
            request.method,
            String::from_utf8_lossy(&request.body)
        );
        let headers = [("x-old", "yes"), ("set-cookie", "a"), ("set-cookie", "b")];
        answer(202, &headers, &seen)
    })
    .await
}

#[tokio::test]
async fn a_dead_cluster_s_requests_go_on_to_the_monolith_as_they_came() {
    let monolith = telling().await;
    let clusters = [
        grpc("new", closed().await),
        http("monolith", monolith.address()),
    ];
    let gateway = gateway(&clusters, &format!("{TRANSCODED}{FALLS_BACK}")).await;
    let mut client = Http1::connect(gateway.http()).await;
    let headers = [("x-mine", "1"), ("x-request-id", "id-1"), ("cookie", "c=1")];
    let path = "/api/v1/counter/increment?old=1";
    let body = "{\"resource_id\":\"r\",\"counter_type\":\"like\"}";
    for _ in 0..5 {
        let answer = client
            .request("POST", path, &headers, Some(body.as_bytes()))
            .await;
        assert_eq!((answer.status, answer.header("x-old")), (202, Some("yes")));
        let cookies = answer
            .headers
            .iter()
            .filter(|(name, _)| name == "set-cookie");
        assert_eq!(
            (cookies.count(), answer.text()),
            (2, format!("POST {body}"))
        );
    }
    let seen = monolith.received();
    assert_eq!(seen.len(), 5);
    // One to see whether it is there, one that is kept.
    assert!(
        monolith.connections().0 <= 2,
        "{:?}",
        monolith.connections()
    );
    let host = gateway.http().to_string();
    let forwarded = [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("host", &host),
    ];
    for (name, value) in headers.iter().chain(&forwarded) {
        assert_eq!(
            seen[0].header(name),
            Some(*value),
            "{name} of {:?}",
            seen[0]
        );
    }
    assert_eq!(
        (&*seen[0].target, seen[0].header("connection")),
        (path, None)
    );
    let left = seen[0].header("x-request-timeout").unwrap();
    let left: u32 = left.strip_suffix("ms").unwrap().parse().unwrap();
    assert!((1..=15_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_fallback_is_counted_told_once_and_explained() {
    let monolith = named("monolith").await;
    let clusters = [
        grpc("new", closed().await),
        http("monolith", monolith.address()),
    ];
    let gateway = gateway(&clusters, &format!("{TRANSCODED}{FALLS_BACK}")).await;
    let mut client = Http1::connect(gateway.http()).await;
    for _ in 0..5 {
        assert_eq!(get(&mut client, &[]).await, "monolith");
    }
    let labels = [("route", "counters"), ("cluster", "monolith")];
    assert_eq!(
        count(&gateway, "highpress_fallbacks_total", &labels).await,
        5
    );
    let told = gateway.program.logs().matches("requests fall back").count();
    assert_eq!(told, 1, "the log tells of the state, not of requests");
    let explained = admin(&gateway, &format!("/explain?method=GET&path={PATH}"))
        .await
        .text();
    for text in ["fallback   monolith", "fall back just now"] {
        assert!(explained.contains(text), "{explained}");
    }
}

#[tokio::test]
async fn what_may_have_been_executed_never_falls_back() {
    for reaction in [
        Answer::Reset(h2::Reason::INTERNAL_ERROR),
        Answer::ResetMidway(h2::Reason::INTERNAL_ERROR),
        Answer::trailers_only(&[("grpc-status", "14")]),
        Answer::trailers_only(&[("grpc-status", "5")]),
        Answer::http(503, "text/plain", "busy"),
    ] {
        let said = reaction.clone();
        let new = Backend::start(move |_| said.clone()).await;
        let monolith = named("monolith").await;
        let clusters = [
            grpc("new", new.address()),
            http("monolith", monolith.address()),
        ];
        let gateway = gateway(&clusters, &format!("{TRANSCODED}{FALLS_BACK}")).await;
        let answer = Http1::connect(gateway.http()).await.get(PATH).await;
        assert!(answer.status >= 400, "{reaction:?}: {}", answer.text());
        assert_eq!((new.calls(), monolith.requests()), (1, 0), "{reaction:?}");
    }
}

#[tokio::test]
async fn what_is_passed_through_falls_back_by_the_same_rules() {
    let monolith = telling().await;
    let clusters = [
        http("new", closed().await),
        http("monolith", monolith.address()),
    ];
    let dead = gateway(&clusters, &format!("{PASSED}{FALLS_BACK}")).await;
    let mut client = Http1::connect(dead.http()).await;
    for _ in 0..5 {
        let answer = client.request("POST", "/any?a=b", &[], Some(b"body")).await;
        assert_eq!(
            (answer.status, answer.text()),
            (202, "POST body".to_owned())
        );
    }
    let labels = [("route", "counters"), ("cluster", "monolith")];
    assert_eq!(count(&dead, "highpress_fallbacks_total", &labels).await, 5);
    for steps in [
        vec![Step::Reset],
        vec![Step::Close],
        answer(503, &[], "busy"),
    ] {
        let new = HttpBackend::start(move |_| steps.clone()).await;
        let monolith = named("monolith").await;
        let clusters = [
            http("new", new.address()),
            http("monolith", monolith.address()),
        ];
        let gateway = gateway(&clusters, &format!("{PASSED}{FALLS_BACK}")).await;
        let mut client = Http1::connect(gateway.http()).await;
        assert!(client.post_text("/any", "x").await.status >= 500);
        assert_eq!((new.requests(), monolith.requests()), (1, 0));
    }
}

#[tokio::test]
async fn a_refused_stream_and_a_dead_http_cluster_fall_back_in_order() {
    let refusing = Backend::start(|_| Answer::Reset(h2::Reason::REFUSED_STREAM)).await;
    let monolith = named("monolith").await;
    let clusters = [
        grpc("new", refusing.address()),
        http("dead", closed().await),
        http("monolith", monolith.address()),
        http("unused", closed().await),
    ];
    let route = format!("{TRANSCODED}    to: new\n    fallback: [dead, monolith, unused]\n");
    let gateway = gateway(&clusters, &route).await;
    let mut client = Http1::connect(gateway.http()).await;
    for _ in 0..3 {
        assert_eq!(get(&mut client, &[]).await, "monolith");
    }
    assert_eq!(monolith.requests(), 3);
    let fell = |cluster: &'static str| {
        let gateway = &gateway;
        async move {
            count(
                gateway,
                "highpress_fallbacks_total",
                &[("cluster", cluster)],
            )
            .await
        }
    };
    assert_eq!(
        (
            fell("dead").await,
            fell("monolith").await,
            fell("unused").await
        ),
        (3, 3, 0)
    );
}

#[tokio::test]
async fn requests_come_back_with_the_cluster_and_the_log_says_so() {
    let address = closed().await;
    let monolith = named("monolith").await;
    let clusters = [http("new", address), http("monolith", monolith.address())];
    let gateway = gateway(&clusters, &format!("{TRANSCODED}{FALLS_BACK}")).await;
    let mut client = Http1::connect(gateway.http()).await;
    assert_eq!(get(&mut client, &[]).await, "monolith");
    let _new = HttpBackend::start_at(address, |_| testkit::http_backend::ok("new")).await;
    eventually(
        "the log to say that nobody falls back",
        Duration::from_secs(30),
        || async {
            let answer = get(&mut Http1::connect(gateway.http()).await, &[]).await;
            let told = gateway
                .program
                .logs()
                .contains("requests need not fall back any more");
            if answer == "new" && told {
                Ok(())
            } else {
                Err(answer)
            }
        },
    )
    .await;
    assert_eq!(
        gateway.program.logs().matches("requests fall back").count(),
        1
    );
}

#[tokio::test]
async fn a_cluster_whose_breakers_reject_falls_back_until_they_do_not() {
    let new = Backend::start(|_| Answer::trailers_only(&[("grpc-status", "14")])).await;
    let monolith = named("monolith").await;
    let broken = grpc("new", new.address()).replace(
        " }\n",
        ", breaker: { min_requests: 5, window: 10s, hold: 60s } }\n",
    );
    let clusters = [broken, http("monolith", monolith.address())];
    let gateway = gateway(&clusters, &format!("{TRANSCODED}{FALLS_BACK}")).await;
    let mut client = Http1::connect(gateway.http()).await;
    for _ in 0..50 {
        client.get(PATH).await;
    }
    assert_eq!(new.calls(), 5, "what the backend has answered is an answer");
    assert_eq!(monolith.requests(), 45);
    let labels = [("cluster", "monolith"), ("reason", "circuit_open")];
    assert_eq!(
        count(&gateway, "highpress_fallbacks_total", &labels).await,
        45
    );
}
