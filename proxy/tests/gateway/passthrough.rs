//! Plain HTTP to a backend that speaks it, beside transcoded routes.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::http_backend::{HttpBackend, Step, ok};
use testkit::mesh::Gateway;
use testkit::wait::within;
use testkit::{Http1, Metrics, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A monolith: answers every request with what it got, as text.
async fn monolith() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = Vec::new();
                while let Some(request) = request(&mut stream, &mut read).await {
                    let answer = format!(
                        "HTTP/1.1 201 Created\r\nx-old: yes\r\ncontent-length: {}\r\n\r\n{request}",
                        request.len()
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

/// One request with a body by `content-length`, as text.
async fn request(stream: &mut tokio::net::TcpStream, read: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(read).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text[..end].lines().find_map(|line| {
                line.strip_prefix("content-length:")?
                    .trim()
                    .parse::<usize>()
                    .ok()
            });
            let all = end + 4 + length.unwrap_or(0);
            if read.len() >= all {
                return Some(
                    String::from_utf8_lossy(&read.drain(..all).collect::<Vec<_>>()).into_owned(),
                );
            }
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

async fn gateway(endpoints: &str) -> Gateway {
    Gateway::start(&format!(
        r#"
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
clusters:
  - {{ name: monolith, protocol: http1, endpoints: {{ static: [{endpoints}] }} }}
routes:
  - {{ name: rest, match: {{ path_prefix: / }}, to: monolith }}
"#
    ))
    .await
}

#[tokio::test]
async fn requests_and_answers_pass_untouched_but_for_the_forwarding_headers() {
    let backend = monolith().await;
    let gateway = gateway(&format!("\"{backend}\"")).await;
    let mut client = Http1::connect(gateway.http()).await;
    for round in 0..3 {
        let answer = client
            .request(
                "POST",
                "/a/../b%2F?x=1",
                &[("x-mine", "1"), ("x-request-id", "id-1")],
                Some(b"hello"),
            )
            .await;
        let seen = answer.text().to_lowercase();
        assert_eq!(
            (round, answer.status, answer.header("x-old")),
            (round, 201, Some("yes"))
        );
        assert!(
            seen.starts_with("post /a/../b%2f?x=1 http/1.1\r\n") && seen.ends_with("\r\n\r\nhello"),
            "{seen}"
        );
        for header in [
            "x-mine: 1",
            "x-request-id: id-1",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-proto: http",
            &format!("host: {}", gateway.http()),
        ] {
            assert!(seen.contains(header), "{header} is not in\n{seen}");
        }
    }
    // An answer can be read before it is counted.
    eventually(
        "three requests to be counted",
        Duration::from_secs(10),
        || async {
            let metrics = Metrics::scrape(gateway.admin()).await;
            let requests = [("endpoint", "/**"), ("status_code", "201")];
            let attempts = [("cluster", "monolith"), ("outcome", "ok")];
            let counted = (
                metrics.counter_value("highgopress_http_requests_total", &requests),
                metrics.counter_value("highpress_upstream_attempts_total", &attempts),
            );
            if counted == (3, 3) {
                Ok(())
            } else {
                Err(format!("{counted:?}"))
            }
        },
    )
    .await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_costs_no_request() {
    let backend = monolith().await;
    let closed = {
        TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let gateway = gateway(&format!("\"{closed}\", \"{backend}\"")).await;
    for _ in 0..20 {
        let mut client = Http1::connect(gateway.http()).await;
        assert_eq!(client.post_text("/", "x").await.status, 201);
    }
}

#[tokio::test]
async fn without_a_backend_the_answer_is_503_and_says_why() {
    let closed = {
        TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let gateway = gateway(&format!("\"{closed}\"")).await;
    let mut client = Http1::connect(gateway.http()).await;
    let answer = client.get("/").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let status = answer.json();
    assert_eq!(status["details"][0]["domain"], "highpress", "{status}");
    assert!(answer.header("x-request-id").is_some() && answer.header("retry-after").is_some());
}

#[tokio::test]
async fn a_backend_that_stays_silent_is_504_when_the_route_s_time_is_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Gateway::start(&format!(
        r#"
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
clusters: [{{ name: silent, protocol: http1, endpoints: {{ static: ["{}"] }} }}]
routes: [{{ name: rest, match: {{ path_prefix: / }}, to: silent, timeout: 300ms }}]
"#,
        silent.local_addr().unwrap()
    ))
    .await;
    let began = tokio::time::Instant::now();
    let answer = Http1::connect(gateway.http()).await.get("/").await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(began.elapsed() >= Duration::from_millis(300));
}

const MS: Duration = Duration::from_millis(1);

/// A gateway before one cluster, with these keys of the cluster and of the route.
async fn before(backend: &HttpBackend, cluster: &str, route: &str) -> Gateway {
    Gateway::start(&format!(
        r#"
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
clusters: [{{ name: old, protocol: http1, endpoints: {{ static: ["{}"] }}{cluster} }}]
routes: [{{ name: rest, match: {{ path_prefix: / }}, to: old{route} }}]
"#,
        backend.address()
    ))
    .await
}

/// The statuses of that many requests at once, each on a connection of its own.
async fn statuses(gateway: &Gateway, requests: usize) -> Vec<u16> {
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..requests {
        let address = gateway.http();
        all.spawn(async move { Http1::connect(address).await.get("/").await.status });
    }
    let mut statuses = all.join_all().await;
    statuses.sort_unstable();
    statuses
}

async fn until_in_flight(backend: &HttpBackend, wanted: usize) {
    eventually(
        &format!("{wanted} requests to be under way"),
        Duration::from_secs(10),
        || async {
            match backend.in_flight().0 {
                now if now == wanted => Ok(()),
                now => Err(format!("{now} are")),
            }
        },
    )
    .await;
}

#[tokio::test]
async fn never_more_requests_are_in_flight_than_the_limit_and_the_rest_wait_or_are_refused() {
    let script = |_: &_| [vec![Step::Wait(300 * MS)], ok("done")].concat();
    let backend = HttpBackend::start(script).await;
    let gateway = before(&backend, ", limits: { requests: 2, pending: 3 }", "").await;
    let statuses = statuses(&gateway, 12).await;
    let answered = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert_eq!((answered, refused), (5, 7), "{statuses:?}");
    assert_eq!(backend.in_flight(), (0, 2));
    assert_eq!(backend.requests(), 5);
}

#[tokio::test]
async fn a_refused_request_says_so_at_once_and_keeps_its_connection() {
    let backend = HttpBackend::start(|_| vec![Step::Hang]).await;
    let gateway = before(&backend, ", limits: { requests: 1, pending: 0 }", "").await;
    let mut first = Http1::connect(gateway.http()).await;
    first.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until_in_flight(&backend, 1).await;
    let mut second = Http1::connect(gateway.http()).await;
    for _ in 0..2 {
        let began = tokio::time::Instant::now();
        let refused = second.post_text("/", "a body").await;
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert_eq!(refused.json()["details"][0]["reason"], "OVERLOADED");
        assert!(refused.header("retry-after").is_some());
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }
    assert_eq!(backend.requests(), 1);
}

#[tokio::test]
async fn a_request_waits_in_the_queue_no_longer_than_its_time() {
    let backend = HttpBackend::start(|_| vec![Step::Hang]).await;
    let gateway = before(&backend, ", limits: { requests: 1 }", "").await;
    let mut first = Http1::connect(gateway.http()).await;
    first.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until_in_flight(&backend, 1).await;
    let mut second = Http1::connect(gateway.http()).await;
    let hurried = [("x-request-timeout", "200ms")];
    let late = second.request("GET", "/", &hurried, None).await;
    assert_eq!(late.status, 504, "{}", late.text());
    assert_eq!(late.json()["details"][0]["reason"], "DEADLINE_EXCEEDED");
    assert_eq!(backend.requests(), 1);
}

#[tokio::test]
async fn a_slot_is_free_again_when_its_request_ends_however_it_ends() {
    let script = |request: &testkit::http_backend::Received| match request.target.as_str() {
        "/hang" => vec![Step::Hang],
        "/reset" => vec![Step::Reset],
        _ => ok("done"),
    };
    let backend = HttpBackend::start(script).await;
    let limits = ", limits: { requests: 1, pending: 0 }";
    let gateway = before(&backend, limits, ", timeout: 300ms").await;
    let mut leaves = Http1::connect(gateway.http()).await;
    leaves.send(b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until_in_flight(&backend, 1).await;
    drop(leaves);
    until_in_flight(&backend, 0).await;
    let admitted = |path: &'static str| {
        let address = gateway.http();
        eventually("a free slot", Duration::from_secs(5), move || async move {
            match Http1::connect(address).await.get(path).await.status {
                503 => Err("refused"),
                status => Ok(status),
            }
        })
    };
    let mut statuses = Vec::new();
    for path in ["/", "/reset", "/hang", "/"] {
        statuses.push(admitted(path).await);
    }
    assert_eq!(statuses, [200, 502, 504, 200]);
}

#[tokio::test]
async fn no_more_connections_are_open_than_the_limit_whatever_their_requests_do() {
    let script = |_: &_| [vec![Step::Wait(50 * MS)], ok("done")].concat();
    let backend = HttpBackend::start(script).await;
    let gateway = Gateway::start(&format!(
        r#"
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
clusters:
  - name: old
    protocol: http1
    endpoints: {{ static: ["127.0.0.1:{port}", "localhost:{port}"] }}
    limits: {{ connections: 3 }}
    load_balancing: {{ policy: round_robin }}
routes: [{{ name: rest, match: {{ path_prefix: / }}, to: old }}]
"#,
        port = backend.address().port()
    ))
    .await;
    for _ in 0..3 {
        let statuses = statuses(&gateway, 20).await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    }
    let (_, _, most) = backend.connections();
    assert!(most <= 3, "{most}");
}

#[tokio::test]
async fn a_backend_that_trickles_its_header_is_504_when_the_route_s_time_is_up() {
    let head = b"HTTP/1.1 200 OK\r\nx-a-header: that never comes to its end\r\n".to_vec();
    let script = move |_: &_| vec![Step::Trickle(head.clone(), 50 * MS), Step::Hang];
    let backend = HttpBackend::start(script).await;
    let gateway = before(&backend, "", ", timeout: 300ms").await;
    let began = tokio::time::Instant::now();
    let late = Http1::connect(gateway.http()).await.get("/").await;
    assert_eq!(late.status, 504, "{}", late.text());
    assert_eq!(late.json()["details"][0]["reason"], "DEADLINE_EXCEEDED");
    assert!(
        (300 * MS..2500 * MS).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    eventually("the backend to be left", Duration::from_secs(5), || async {
        match backend.abandoned() {
            1 => Ok(()),
            other => Err(format!("{other} were abandoned")),
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_has_begun_may_take_longer_than_the_route_s_time() {
    let script = |_: &_| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nab".to_vec();
        let slow = Step::Trickle(b"cdef".to_vec(), 150 * MS);
        vec![Step::Write(head), slow]
    };
    let backend = HttpBackend::start(script).await;
    let gateway = before(&backend, "", ", timeout: 200ms").await;
    let answer = Http1::connect(gateway.http()).await.get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "abcdef"));
}

#[tokio::test]
async fn an_upload_may_take_longer_than_the_route_s_time_and_is_told_what_is_left() {
    let backend = HttpBackend::start(|_| ok("done")).await;
    let gateway = before(&backend, "", ", timeout: 400ms").await;
    let mut client = Http1::connect(gateway.http()).await;
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100006\r\n\r\n";
    client.send(&[&head[..], &[b'x'; 100_000]].concat()).await;
    for byte in *b"slowly" {
        tokio::time::sleep(150 * MS).await;
        client.send(&[byte]).await;
    }
    assert_eq!(client.response(false).await.status, 200);
    let limits = [("x-request-timeout", "5s"), ("grpc-timeout", "300m")];
    client.request("GET", "/", &limits, None).await;
    let received = backend.received();
    assert!(received[0].body.ends_with(b"xslowly"));
    assert_eq!(
        received[0].header("x-request-timeout"),
        None,
        "it is not known yet"
    );
    let left = |name, unit| -> u64 {
        let value = received[1].header(name).expect(name);
        value.strip_suffix(unit).expect(value).parse().expect(value)
    };
    let (http, grpc) = (left("x-request-timeout", "ms"), left("grpc-timeout", "m"));
    assert!(http == grpc && (1..=300).contains(&http), "{http} {grpc}");
}

#[tokio::test]
async fn a_backend_that_leaves_the_body_unread_cannot_hold_the_client_for_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = Gateway::start(&format!(
        r#"
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
clusters: [{{ name: deaf, protocol: http1, endpoints: {{ static: ["{address}"] }} }}]
routes: [{{ name: rest, match: {{ path_prefix: / }}, to: deaf, timeout: 300ms }}]
"#
    ))
    .await;
    let mut client = tokio::net::TcpStream::connect(gateway.http())
        .await
        .unwrap();
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n";
    client.write_all(head).await.unwrap();
    let upload = async {
        let piece = vec![b'x'; 1 << 16];
        while client.write_all(&piece).await.is_ok() {}
    };
    within("the upload to be ended", Duration::from_secs(10), upload).await;
}

#[tokio::test]
async fn a_client_that_leaves_is_left_by_the_gateway_at_once() {
    let backend = HttpBackend::start(|_| vec![Step::Hang]).await;
    let gateway = before(&backend, "", "").await;
    for request in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody",
    ] {
        let mut client = Http1::connect(gateway.http()).await;
        client.send(request).await;
        until_in_flight(&backend, 1).await;
        drop(client);
        let began = tokio::time::Instant::now();
        until_in_flight(&backend, 0).await;
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    }
    assert_eq!(backend.abandoned(), 2);
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_never_reaches_a_backend() {
    let script = |_: &_| [vec![Step::Wait(600 * MS)], ok("done")].concat();
    let backend = HttpBackend::start(script).await;
    let gateway = before(&backend, ", limits: { requests: 1, pending: 1 }", "").await;
    let mut first = Http1::connect(gateway.http()).await;
    first.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until_in_flight(&backend, 1).await;
    // A further request is refused while the queue is full, and too late while it has room.
    let probe = || async {
        let hurried = [("x-request-timeout", "20ms")];
        let mut client = Http1::connect(gateway.http()).await;
        client.request("GET", "/", &hurried, None).await.status
    };
    let queued = eventually("a place in the queue", Duration::from_secs(5), || async {
        let mut queued = Http1::connect(gateway.http()).await;
        let request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
        queued.send(request).await;
        match probe().await {
            503 => Ok(queued),
            other => Err(format!("{other}: the queue has room")),
        }
    })
    .await;
    drop(queued);
    eventually("the queue to be left", Duration::from_secs(5), || async {
        match probe().await {
            504 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    assert_eq!(first.response(false).await.status, 200);
    assert_eq!(backend.requests(), 1);
}
