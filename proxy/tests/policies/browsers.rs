//! What browsers and caches are told of answers: the words for scripts of other sites, compression of what is passed
//! through, the route's own lines in refusals at the door; and how much time backends hear of.

use std::io::Read;

use flate2::read::GzDecoder;
use testkit::http_backend::{HttpBackend, answer};
use testkit::{Http1, Response};

use super::setup::{cluster, gateway};

const APP: &str = "https://app.example.com";
const CORS: &str =
    "cors: { origins: [\"https://app.example.com\"], expose: [x-total], credentials: true }";

fn value<'r>(response: &'r Response, name: &str) -> &'r str {
    response.header(name).unwrap_or_default()
}

#[tokio::test]
async fn browsers_are_answered_and_told() {
    let backend =
        HttpBackend::start(|_| answer(200, &[("access-control-allow-origin", "*")], "hello")).await;
    let clusters = [
        cluster("old", "http1", &[backend.address()], ""),
        cluster("grpc", "grpc", &["127.0.0.1:1".parse().unwrap()], ""),
    ];
    let routes = [
        format!("{{ name: rest, match: {{ path_prefix: /rest }}, to: old, {CORS} }}"),
        format!("{{ name: web, match: {{ path_prefix: /a.B/ }}, to: grpc, {CORS} }}"),
        format!(
            "{{ name: json, transcode: {{ services: [counter.CounterService] }}, to: grpc, {CORS} }}"
        ),
        "{ name: plain, match: { path_prefix: / }, to: old }".to_owned(),
    ];
    let gateway = gateway(&clusters, &routes).await;
    let mut client = Http1::connect(gateway.http()).await;
    for (path, method, body) in [
        ("/rest/x", "PUT", None),
        ("/a.B/C", "POST", Some(&b"\0\0\0\0\0"[..])),
        ("/api/v1/counter/a/like", "GET", None),
    ] {
        let asked = [
            ("origin", APP),
            ("access-control-request-method", method),
            ("access-control-request-headers", "x-grpc-web,content-type"),
        ];
        let told = client.request("OPTIONS", path, &asked, None).await;
        assert_eq!(told.status, 204, "{path}: {}", told.text());
        assert_eq!(value(&told, "access-control-allow-origin"), APP);
        assert_eq!(value(&told, "access-control-allow-methods"), method);
        assert_eq!(
            value(&told, "access-control-allow-headers"),
            "x-grpc-web,content-type"
        );
        assert_eq!(value(&told, "access-control-allow-credentials"), "true");
        assert_eq!(value(&told, "access-control-max-age"), "600");
        let kind = ("content-type", "application/grpc-web+proto");
        let sent = &[("origin", APP), kind][..1 + usize::from(body.is_some())];
        let got = client.request(method, path, sent, body).await;
        let origins = got.headers.iter();
        let origins = origins.filter(|(name, _)| name == "access-control-allow-origin");
        assert_eq!(origins.count(), 1, "{path}: {got:?}");
        assert_eq!(value(&got, "access-control-allow-origin"), APP);
        let exposed = value(&got, "access-control-expose-headers");
        assert!(
            exposed.contains("grpc-status") && exposed.ends_with("x-total"),
            "{exposed}"
        );
    }
    let foreign = [("origin", "https://evil.example.com")];
    let got = client.request("GET", "/rest/x", &foreign, None).await;
    assert_eq!((got.status, value(&got, "vary")), (200, "origin"));
    assert_eq!(got.header("access-control-allow-origin"), None);
    let requests = backend.requests();
    let asked = [("origin", APP), ("access-control-request-method", "PUT")];
    let other = client.request("OPTIONS", "/other", &asked, None).await;
    assert_eq!(other.status, 200, "a route without `cors` passes it on");
    assert_eq!(backend.requests(), requests + 1);
}

#[tokio::test]
async fn answers_that_are_passed_through_are_compressed_where_the_route_says_so() {
    let backend = HttpBackend::start(|request| {
        let text = "text ".repeat(1000);
        match request.target.as_str() {
            "/zip/short" => answer(200, &[("content-type", "text/plain")], "short"),
            "/zip/image" => answer(200, &[("content-type", "image/png")], &text),
            "/zip/kept" => {
                let lines = [
                    ("content-type", "text/plain"),
                    ("cache-control", "no-transform"),
                ];
                answer(200, &lines, &text)
            }
            _ => answer(
                200,
                &[("content-type", "text/plain"), ("etag", "\"1\"")],
                &text,
            ),
        }
    })
    .await;
    let clusters = [cluster("old", "http1", &[backend.address()], "")];
    let routes = [
        "{ name: zip, match: { path_prefix: /zip }, to: old, compression: true }".to_owned(),
        "{ name: plain, match: { path_prefix: / }, to: old }".to_owned(),
    ];
    let gateway = gateway(&clusters, &routes).await;
    let mut client = Http1::connect(gateway.http()).await;
    for (path, coding) in [
        ("/zip/x", Some("gzip")),
        ("/zip/short", None),
        ("/zip/image", None),
        ("/zip/kept", None),
        ("/x", None),
    ] {
        let accept = [("accept-encoding", "gzip")];
        let got = client.request("GET", path, &accept, None).await;
        assert_eq!(got.header("content-encoding"), coding, "{path}: {got:?}");
        if coding.is_some() {
            let mut text = String::new();
            GzDecoder::new(&got.body[..])
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!((text.len(), value(&got, "etag")), (5000, "W/\"1\""));
            assert_eq!(value(&got, "vary"), "accept-encoding");
            assert!(got.body.len() < 500, "{} bytes", got.body.len());
        }
    }
}

#[tokio::test]
async fn refusals_at_the_door_have_the_lines_of_their_route() {
    let clusters = [cluster(
        "grpc",
        "grpc",
        &["127.0.0.1:1".parse().unwrap()],
        "",
    )];
    let routes = [
        "{ name: json, transcode: { services: [counter.CounterService], max_body: 1KiB }, to: grpc, \
         response_headers: { set: { strict-transport-security: max-age=9 } } }"
            .to_owned(),
    ];
    let gateway = gateway(&clusters, &routes).await;
    let mut client = Http1::connect(gateway.http()).await;
    let body = " ".repeat(2000);
    let got = client.post_text("/api/v1/counter/increment", &body).await;
    assert_eq!(
        (got.status, value(&got, "strict-transport-security")),
        (413, "max-age=9")
    );
}

#[tokio::test]
async fn the_first_try_of_a_request_with_a_body_tells_its_time_too() {
    let backend = HttpBackend::start(|_| answer(200, &[], "hello")).await;
    let clusters = [cluster("old", "http1", &[backend.address()], "")];
    let routes = ["{ name: rest, match: { path_prefix: / }, to: old, timeout: 3s }".to_owned()];
    let gateway = gateway(&clusters, &routes).await;
    let mut client = Http1::connect(gateway.http()).await;
    for body in ["", "body"] {
        client.post_text("/", body).await;
        let received = backend.received();
        let told = received.last().unwrap().header("x-request-timeout");
        let left = told.and_then(|told| told.strip_suffix("ms")?.parse::<u32>().ok());
        assert!(
            left.is_some_and(|left| (1..=3000).contains(&left)),
            "{told:?}"
        );
    }
}
