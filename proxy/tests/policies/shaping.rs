//! Paths, hosts and headers that are changed on the way, and clients that are sent elsewhere.

use testkit::http_backend::{HttpBackend, Received, Step, answer};
use testkit::{Http1, echo::Echo};

use super::setup::{cluster, gateway};

async fn backend() -> HttpBackend {
    HttpBackend::start(|_| {
        answer(
            200,
            &[("x-old", "1"), ("x-secret", "2"), ("vary", "a")],
            "done",
        )
    })
    .await
}

fn values<'r>(request: &'r Received, name: &str) -> Vec<&'r str> {
    let found = request.headers.iter().filter(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str()).collect()
}

#[tokio::test]
async fn http_backends_see_the_rewritten_path_and_host_and_the_query_as_it_was() {
    let backend = backend().await;
    for protocol in ["http1"] {
        let clusters = [cluster("old", protocol, &[backend.address()], "")];
        let routes = [
            "{ name: api, match: { path_prefix: /api/v1 }, to: old, rewrite: { path_prefix: /v2/, host: \"inner.example:81\" } }".into(),
            "{ name: off, match: { path_prefix: /off }, to: old, rewrite: { path_prefix: / } }".into(),
            "{ name: rest, match: { path_prefix: / }, to: old }".into(),
        ];
        let gateway = gateway(&clusters, &routes).await;
        let mut client = Http1::connect(gateway.http()).await;
        for (asked, seen) in [
            (
                "/api/v1/a%2Fb/../c?x=/api/v1&y",
                "/v2/a%2Fb/../c?x=/api/v1&y",
            ),
            ("/api/v1", "/v2/"),
            ("/%61pi/v1/c", "/v2/c"),
            ("/api/v1//c", "/v2//c"),
            ("/api/v10", "/api/v10"),
            // Two slashes in front would be a host to many a backend.
            ("/off//evil.example/x", "/evil.example/x"),
            ("/off", "/"),
        ] {
            assert_eq!(client.get(asked).await.status, 200);
            let received = backend.received();
            let last = received.last().unwrap();
            assert_eq!(last.target, seen, "{asked}");
            let rewritten = seen.starts_with("/v2");
            assert_eq!(last.header("host") == Some("inner.example:81"), rewritten);
            let outer = gateway.http().to_string();
            assert_eq!(last.header("x-forwarded-host"), Some(outer.as_str()));
        }
    }
}

#[tokio::test]
async fn header_lines_are_removed_set_and_added_both_ways() {
    let backend = backend().await;
    let clusters = [cluster("old", "http1", &[backend.address()], "")];
    let edits = "request_headers: { set: { x-tenant: acme }, add: { x-trace: b }, remove: [x-internal] }, \
         response_headers: { set: { x-frame-options: DENY, x-old: new }, add: { vary: b }, remove: [x-secret] }";
    let routes = [format!(
        "{{ name: rest, match: {{ path_prefix: / }}, to: old, {edits} }}"
    )];
    let gateway = gateway(&clusters, &routes).await;
    let mut client = Http1::connect(gateway.http()).await;
    let sent = [
        ("x-tenant", "evil"),
        ("X-Internal", "1"),
        ("x-trace", "a"),
        ("x-mine", "1"),
    ];
    let got = client.request("GET", "/", &sent, None).await;
    let received = &backend.received()[0];
    assert_eq!(values(received, "x-tenant"), ["acme"]);
    assert_eq!(values(received, "x-trace"), ["a", "b"]);
    assert_eq!(values(received, "x-internal"), [""; 0]);
    assert_eq!(values(received, "x-mine"), ["1"]);
    let all = |name: &str| -> Vec<&str> {
        let found = got.headers.iter().filter(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(
        (all("x-frame-options"), all("x-old")),
        (vec!["DENY"], vec!["new"])
    );
    assert_eq!((all("vary"), all("x-secret")), (vec!["a", "b"], vec![]));
}

#[tokio::test]
async fn the_gateway_s_own_answers_of_a_route_are_edited_too() {
    let backend = HttpBackend::start(|_| vec![Step::Close]).await;
    let clusters = [cluster("old", "http1", &[backend.address()], "")];
    let edits = "response_headers: { set: { strict-transport-security: max-age=9 } }";
    let routes = [
        format!("{{ name: rest, match: {{ path_prefix: / }}, to: old, {edits} }}"),
        format!(
            "{{ name: moved, match: {{ path: /moved }}, redirect: {{ path: /new }}, {edits} }}"
        ),
        format!(
            "{{ name: counters, match: {{ path_prefix: /api/v1/counter/ }}, transcode: {{ services: [counter.CounterService], profile: phase1 }}, to: grpc, {edits} }}"
        ),
    ];
    let clusters = [
        clusters[0].clone(),
        cluster("grpc", "grpc", &[backend.address()], ""),
    ];
    let gateway = gateway(&clusters, &routes).await;
    for (path, status) in [("/", 502), ("/moved", 302), ("/api/v1/counter/a/like", 503)] {
        let got = Http1::connect(gateway.http()).await.get(path).await;
        let header = got.header("strict-transport-security");
        assert_eq!((got.status, header), (status, Some("max-age=9")), "{path}");
    }
}

#[tokio::test]
async fn edits_of_the_request_reach_grpc_backends_as_metadata_where_grpc_allows_the_name() {
    let backend = Echo::with(proto::DESCRIPTOR_SET, |method, _| {
        Ok(prost_reflect::DynamicMessage::new(method.output()))
    })
    .await;
    let clusters = [cluster("counter", "grpc", &[backend.address], "")];
    let edits = "request_headers: { set: { x-tenant: acme, authorization: inner, user-agent: mine }, add: { grpc-timeout: 1n }, remove: [traceparent] }";
    let routes = [format!(
        "{{ name: counters, match: {{ path_prefix: /api/v1/counter/ }}, transcode: {{ services: [counter.CounterService], profile: phase1 }}, to: counter, {edits} }}"
    )];
    let gateway = gateway(&clusters, &routes).await;
    let sent = [
        ("authorization", "outer"),
        ("traceparent", "00-1-2-3"),
        ("grpc-metadata-x-tenant", "evil"),
    ];
    let mut client = Http1::connect(gateway.http()).await;
    let got = client
        .request("GET", "/api/v1/counter/a/like", &sent, None)
        .await;
    assert_eq!(got.status, 200, "{}", got.text());
    let received = &backend.received()[0].headers;
    let all = |name: &str| -> Vec<&str> {
        received
            .get_all(name)
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect()
    };
    assert_eq!(
        (all("x-tenant"), all("authorization")),
        (vec!["acme"], vec!["inner"])
    );
    assert_eq!(all("traceparent"), [""; 0]);
    assert!(!all("user-agent").contains(&"mine") && !all("grpc-timeout").contains(&"1n"));
}

#[tokio::test]
async fn clients_are_sent_elsewhere_without_a_backend() {
    let routes = [
        "{ name: tls, match: { path_prefix: /a }, redirect: { scheme: https, status: 308 } }".into(),
        "{ name: host, match: { path_prefix: /b/ }, redirect: { host: new.example, path_prefix: / } }".into(),
        "{ name: path, match: { path: /c }, redirect: { path: /new/place, status: 301 } }".into(),
        "{ name: slash, match: { path_prefix: / }, redirect: { path_prefix: / } }".into(),
    ];
    let gateway = gateway(
        &[cluster(
            "none",
            "http1",
            &["127.0.0.1:9".parse().unwrap()],
            "",
        )],
        &routes,
    )
    .await;
    let mut client = Http1::connect(gateway.http()).await;
    let here = gateway.http();
    for (method, path, status, location) in [
        ("GET", "/a/x?q=1", 308, format!("https://{here}/a/x?q=1")),
        (
            "POST",
            "/b/x/y?q=//z",
            302,
            "http://new.example/x/y?q=//z".into(),
        ),
        ("HEAD", "/c?q", 301, "/new/place?q".into()),
        ("GET", "//evil.example/x", 302, "/evil.example/x".into()),
        (
            "GET",
            "/%0d%0aset-cookie:x",
            302,
            "/%0d%0aset-cookie:x".into(),
        ),
    ] {
        let got = client.request(method, path, &[], None).await;
        assert_eq!(
            (got.status, got.header("location")),
            (status, Some(location.as_str())),
            "{path}"
        );
        assert_eq!(got.header("content-length"), Some("0"));
    }
}

#[tokio::test]
async fn a_websocket_still_works_with_policies_on() {
    let upgrade =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let backend = HttpBackend::start(|_| vec![Step::Write(upgrade.to_vec()), Step::Echo]).await;
    let clusters = [cluster(
        "old",
        "http1",
        &[backend.address()],
        ", limits: { requests: 5 }, breaker: { min_requests: 1 }",
    )];
    let routes = ["{ name: rest, match: { path_prefix: /ws }, to: old, timeout: 300ms, retry: { attempts: 3 }, \
        rewrite: { path_prefix: /socket }, response_headers: { set: { x-a: b } } }".into()];
    let gateway = gateway(&clusters, &routes).await;
    let mut client = Http1::connect(gateway.http()).await;
    client
        .send(b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        .await;
    let switched = client.try_response(true).await.expect("an answer");
    assert_eq!((switched.status, switched.header("x-a")), (101, Some("b")));
    for message in ["one", "two"] {
        // Longer than the route's time: it does not bound what is said on the socket.
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        client.send(message.as_bytes()).await;
        assert_eq!(client.read(3).await, message.as_bytes());
    }
    assert_eq!(backend.received()[0].target, "/socket");
    drop(client);
    assert_eq!(backend.requests(), 1);
}
