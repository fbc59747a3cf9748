//! Mirrors in both lanes: which requests are copied, that callers never notice, and what comparing finds.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::backend::{Answer, Backend};
use testkit::http_backend::{HttpBackend, Step, answer, ok};
use testkit::mesh::Gateway;
use testkit::{Http1, eventually};

use super::support::{
    PASSED, PATH, TRANSCODED, admin, closed, count, gateway, get, grpc, http, named, page,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway whose one route goes to `old`, with copies to `new`.
async fn mirrored(lane: &str, old: &HttpBackend, new: &HttpBackend, mirror: &str) -> Gateway {
    let clusters = [http("old", old.address()), http("new", new.address())];
    let route = format!("{lane}    to: old\n    mirror: {{ cluster: new{mirror} }}\n");
    gateway(&clusters, &route).await
}

async fn copies(gateway: &Gateway, result: &str) -> u64 {
    let labels = [
        ("route", "counters"),
        ("cluster", "new"),
        ("result", result),
    ];
    count(gateway, "highpress_mirrored_total", &labels).await
}

async fn compared(gateway: &Gateway, result: &str) -> u64 {
    let labels = [
        ("route", "counters"),
        ("cluster", "new"),
        ("result", result),
    ];
    count(gateway, "highpress_mirror_compared_total", &labels).await
}

/// Waits until so many answers have been compared with that result; gives the mirror's report.
async fn report(gateway: &Gateway, result: &str, number: u64) -> Value {
    eventually("answers to be compared", PATIENCE, || async {
        match compared(gateway, result).await {
            seen if seen == number => Ok(()),
            seen => Err(format!("{seen} compared, expected {number}")),
        }
    })
    .await;
    page(gateway, "/mirrors").await[0].clone()
}

async fn received(backend: &HttpBackend, number: usize) {
    eventually("the copies to arrive", PATIENCE, || async {
        match backend.requests() {
            seen if seen == number => Ok(()),
            seen => Err(format!("{seen} arrived, expected {number}")),
        }
    })
    .await;
}

#[tokio::test]
async fn safe_requests_are_copied_as_they_are_and_others_are_not() {
    for lane in [TRANSCODED, PASSED] {
        let (old, new) = (named("old").await, named("new").await);
        let gateway = mirrored(lane, &old, &new, "").await;
        let mut client = Http1::connect(gateway.http()).await;
        for _ in 0..10 {
            assert_eq!(get(&mut client, &[("x-mine", "1")]).await, "old");
        }
        let post = "/api/v1/counter/increment";
        let body = Some(b"{\"resource_id\":\"r\",\"counter_type\":\"like\"}".as_slice());
        assert_eq!(client.request("POST", post, &[], body).await.text(), "old");
        received(&new, 10).await;
        for copy in new.received() {
            assert_eq!((&*copy.method, &*copy.target), ("GET", PATH));
            assert_eq!(copy.header("x-mine"), Some("1"));
            assert_eq!(copy.header("x-highpress-mirror"), Some("true"));
        }
        assert!(
            old.received()
                .iter()
                .all(|seen| seen.header("x-highpress-mirror").is_none())
        );
        eventually("the copies to be counted", PATIENCE, || async {
            match copies(&gateway, "answered").await {
                10 => Ok(()),
                seen => Err(format!("{seen} counted")),
            }
        })
        .await;
        assert_eq!(new.requests(), 10, "a POST is no safe method");
    }
}

#[tokio::test]
async fn a_copy_has_the_id_of_its_original_whoever_gave_it() {
    for lane in [TRANSCODED, PASSED] {
        let (old, new) = (named("old").await, named("new").await);
        let gateway = mirrored(lane, &old, &new, "").await;
        let mut client = Http1::connect(gateway.http()).await;
        for headers in [&[][..], &[("x-request-id", "mine")]] {
            get(&mut client, headers).await;
        }
        received(&new, 2).await;
        let ids = |backend: &HttpBackend| -> Vec<String> {
            let received = backend.received();
            let id = |seen: &testkit::http_backend::Received| {
                seen.header("x-request-id").unwrap().to_owned()
            };
            let mut ids: Vec<_> = received.iter().map(id).collect();
            ids.sort();
            ids
        };
        assert_eq!(ids(&old), ids(&new));
        assert!(ids(&old).contains(&"mine".to_owned()));
    }
}

#[tokio::test]
async fn a_copy_of_a_grpc_call_has_its_id_too() {
    let id = |seen: &testkit::backend::Seen| {
        seen.headers
            .get("x-request-id")
            .map(|id| id.as_bytes().to_vec())
    };
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let backend = || async {
        let tell = tell.clone();
        Backend::start(move |seen| {
            tell.send(id(seen)).unwrap();
            Answer::message(b"")
        })
        .await
    };
    let (old, new) = (backend().await, backend().await);
    let clusters = [grpc("old", old.address()), grpc("new", new.address())];
    let route = format!("{TRANSCODED}    to: old\n    mirror: {{ cluster: new }}\n");
    let gateway = gateway(&clusters, &route).await;
    get(&mut Http1::connect(gateway.http()).await, &[]).await;
    let one = told.recv().await.unwrap();
    assert!(one.is_some());
    assert_eq!(told.recv().await.unwrap(), one);
}

#[tokio::test]
async fn bodies_are_copied_where_the_route_says_that_it_is_safe() {
    for lane in [TRANSCODED, PASSED] {
        let (old, new) = (named("old").await, named("new").await);
        let gateway = mirrored(lane, &old, &new, ", unsafe: true").await;
        let mut client = Http1::connect(gateway.http()).await;
        let body = b"{\"resource_id\":\"r\",\"counter_type\":\"like\"}";
        let post = "/api/v1/counter/increment";
        for _ in 0..3 {
            assert_eq!(
                client.request("POST", post, &[], Some(body)).await.text(),
                "old"
            );
        }
        received(&new, 3).await;
        assert!(new.received().iter().all(|copy| copy.body == body));
    }
}

#[tokio::test]
async fn a_share_is_a_share() {
    for lane in [TRANSCODED, PASSED] {
        let (old, new) = (named("old").await, named("new").await);
        let gateway = mirrored(lane, &old, &new, ", share: 10%").await;
        let mut client = Http1::connect(gateway.http()).await;
        for _ in 0..1000 {
            get(&mut client, &[]).await;
        }
        // Five standard deviations, and copies that are still on their way.
        let seen = new.requests();
        assert!((40..=150).contains(&seen), "{seen} of 1000 were copied");
    }
}

#[tokio::test]
async fn callers_never_notice_a_mirror_that_hangs_refuses_or_breaks() {
    for lane in [TRANSCODED, PASSED] {
        let old = named("old").await;
        let hanging = HttpBackend::start(|_| vec![Step::Hang]).await;
        let breaking = HttpBackend::start(|_| vec![Step::Reset]).await;
        for address in [hanging.address(), breaking.address(), closed().await] {
            let clusters = [http("old", old.address()), http("new", address)];
            let mirror = "    mirror: { cluster: new, compare: true }\n    timeout: 60s\n";
            let gateway = gateway(&clusters, &format!("{lane}    to: old\n{mirror}")).await;
            let mut client = Http1::connect(gateway.http()).await;
            for _ in 0..20 {
                assert_eq!(get(&mut client, &[]).await, "old");
            }
        }
    }
}

#[tokio::test]
async fn answers_that_differ_are_reported_field_by_field() {
    for lane in [TRANSCODED, PASSED] {
        let old = HttpBackend::start(|_| ok(r#"{"data":{"value":1,"at":1},"status":"ok"}"#)).await;
        let new = HttpBackend::start(|seen| {
            let value = if seen.target.contains("other") { 2 } else { 1 };
            ok(&format!(
                r#"{{ "status":"ok", "data":{{"at":2,"value":{value}}} }}"#
            ))
        })
        .await;
        let mirror = ", compare: true, ignore: [data.at]";
        let gateway = mirrored(lane, &old, &new, mirror).await;
        let mut client = Http1::connect(gateway.http()).await;
        for _ in 0..3 {
            get(&mut client, &[]).await;
        }
        let same = report(&gateway, "same", 3).await;
        assert_eq!(same["recent"], json!([]));
        let other = "/api/v1/counter/other/like";
        client.request("GET", other, &[], None).await;
        let different = report(&gateway, "different", 1).await;
        assert_eq!(different["recent"][0]["path"], other);
        let expected = json!([{ "at": "data.value", "answered": "1", "mirrored": "2" }]);
        assert_eq!(different["recent"][0]["differences"], expected);
    }
}

#[tokio::test]
async fn a_new_service_is_shown_to_say_what_the_monolith_says() {
    let old = HttpBackend::start(|_| {
        answer(
            200,
            &[("content-type", "application/json")],
            concat!(
                r#"{"status":"success","data":{"resource_id":"r","counter_type":"like","#,
                r#""current_value":42,"updated_at":1700000000}}"#,
            ),
        )
    })
    .await;
    // resource_id "r", counter_type "like", current_value 42, updated_at 1700000000
    let new = Backend::start(|_| {
        Answer::message(b"\x0a\x01r\x12\x04like\x18\x2a\x20\x80\xe2\xcf\xaa\x06")
    })
    .await;
    let clusters = [http("old", old.address()), grpc("new", new.address())];
    let mirror = "    to: old\n    mirror: { cluster: new, compare: true }\n";
    let gateway = gateway(&clusters, &format!("{TRANSCODED}{mirror}")).await;
    let mut client = Http1::connect(gateway.http()).await;
    let before = get(&mut client, &[]).await;
    assert!(before.contains("current_value\":42"), "{before}");
    report(&gateway, "same", 1).await;
    let explain = format!("/explain?method=GET&path={PATH}");
    let explained = admin(&gateway, &explain).await.text();
    assert!(
        explained.contains(
            "mirror     100% of requests with safe methods to `new`, answers are compared"
        ),
        "{explained}"
    );
}
