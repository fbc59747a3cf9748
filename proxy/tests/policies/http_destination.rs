//! Transcoded routes whose destination speaks HTTP: the original request, the backend's own answer, and the same
//! rules about trying again as for gRPC, whatever the backend does.

use std::time::Duration;

use testkit::backend::{Answer, Backend, Seen};
use testkit::http_backend::{HttpBackend, Received, Step, answer, ok};
use testkit::mesh::Gateway;
use testkit::{Http1, Response, eventually};
use tokio::time::Instant;

use super::support::{PATH, TRANSCODED, count, gateway, http, named};

const INCREMENT: &str = "/api/v1/counter/increment";
const BODY: &[u8] = br#"{"resource_id":"r","counter_type":"like"}"#;

/// A gateway whose one route goes to these endpoints, with this besides.
async fn before(endpoints: &[std::net::SocketAddr], more: &str) -> Gateway {
    let list: Vec<String> = endpoints
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    let cluster = format!(
        "  - {{ name: old, protocol: http1, endpoints: {{ static: [{}] }} }}\n",
        list.join(", ")
    );
    gateway(&[cluster], &format!("{TRANSCODED}    to: old\n{more}")).await
}

async fn get(gateway: &Gateway) -> Response {
    Http1::connect(gateway.http()).await.get(PATH).await
}

async fn post(gateway: &Gateway) -> Response {
    let mut client = Http1::connect(gateway.http()).await;
    client.request("POST", INCREMENT, &[], Some(BODY)).await
}

/// First this, then `ok`.
async fn first(steps: Vec<Step>) -> HttpBackend {
    HttpBackend::start(move |request| match request.number {
        0 => steps.clone(),
        _ => ok("well"),
    })
    .await
}

#[tokio::test]
async fn any_answer_is_given_on_as_it_is() {
    let chunked = "HTTP/1.1 203 Odd\r\ntransfer-encoding: chunked\r\nx-a: 1\r\nconnection: x-a\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let until_close = "HTTP/1.0 404 None\r\n\r\nall of it";
    let informed = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nx: y\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    for (text, closes, status, body) in [
        (chunked, false, 203, "abcde"),
        (until_close, true, 404, "all of it"),
        (informed, false, 200, "ok"),
        ("HTTP/1.1 204 No\r\n\r\n", false, 204, ""),
        (
            "HTTP/1.1 302 There\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n",
            false,
            302,
            "",
        ),
        (
            "HTTP/1.1 500 Sorry\r\ncontent-length: 3\r\n\r\nbad",
            false,
            500,
            "bad",
        ),
    ] {
        let mut steps = vec![Step::Write(text.as_bytes().to_vec())];
        steps.extend(closes.then_some(Step::Close));
        let backend = HttpBackend::start(move |_| steps.clone()).await;
        let gateway = before(&[backend.address()], "").await;
        for _ in 0..2 {
            let answer = get(&gateway).await;
            assert_eq!(
                (answer.status, answer.text()),
                (status, body.to_owned()),
                "{text}"
            );
            assert_eq!(answer.header("x-a"), None, "it is about the connection");
        }
    }
}

#[tokio::test]
async fn the_length_that_a_backend_tells_for_head_is_told() {
    for (length, told) in [
        ("content-length: 5\r\n", Some("5")),
        ("transfer-encoding: chunked\r\n", None),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{length}\r\n").into_bytes();
        let backend = HttpBackend::start(move |_| vec![Step::Write(head.clone())]).await;
        let gateway = before(&[backend.address()], "").await;
        let mut client = Http1::connect(gateway.http()).await;
        for _ in 0..2 {
            let answer = client.request("HEAD", PATH, &[], None).await;
            assert_eq!(
                (answer.status, answer.header("content-length")),
                (200, told)
            );
        }
        assert!(
            backend
                .received()
                .iter()
                .all(|request| request.method == "HEAD")
        );
    }
}

#[tokio::test]
async fn answers_that_are_none_are_5xx_and_nothing_is_sent_twice() {
    let write = |text: &str| Step::Write(text.as_bytes().to_vec());
    for (what, steps) in [
        (
            "garbage",
            vec![write("\u{1}\u{2}SSH-2.0-none\r\n\r\n"), Step::Close],
        ),
        ("a reset", vec![Step::Reset]),
        ("a close", vec![Step::Close]),
        (
            "death in the head",
            vec![write("HTTP/1.1 200 OK\r\ncontent-"), Step::Close],
        ),
        (
            "death in the body",
            vec![
                write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"),
                Step::Close,
            ],
        ),
        (
            "death in a chunk",
            vec![
                write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc"),
                Step::Reset,
            ],
        ),
        (
            "an upgrade",
            vec![
                write("HTTP/1.1 101 Switch\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
                Step::Close,
            ],
        ),
    ] {
        let backend = first(steps).await;
        let gateway = before(&[backend.address()], "").await;
        let answer = post(&gateway).await;
        assert!(
            (500..=504).contains(&answer.status),
            "{what}: {} {}",
            answer.status,
            answer.text()
        );
        assert_eq!(backend.requests(), 1, "{what}");
        assert_eq!(
            (post(&gateway).await.status, backend.requests()),
            (200, 2),
            "after {what}"
        );
    }
}

#[tokio::test]
async fn a_backend_that_hangs_is_504_at_the_route_s_time_and_let_go() {
    for steps in [
        vec![Step::Hang],
        vec![
            Step::Write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec()),
            Step::Hang,
        ],
        vec![Step::Trickle(
            b"HTTP/1.1 200 OK\r\n".repeat(9),
            Duration::from_millis(50),
        )],
    ] {
        let backend = HttpBackend::start(move |_| steps.clone()).await;
        let gateway = before(&[backend.address()], "    timeout: 300ms\n").await;
        let began = Instant::now();
        // Phase 1 says 503 where others say 504.
        let answer = get(&gateway).await;
        assert!(matches!(answer.status, 503 | 504), "{}", answer.text());
        assert!(
            began.elapsed() >= Duration::from_millis(290)
                && began.elapsed() < Duration::from_secs(3)
        );
        eventually(
            "the backend to be let go",
            Duration::from_secs(5),
            || async {
                if backend.abandoned() == 1 {
                    Ok(())
                } else {
                    Err("it is not")
                }
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let backend = HttpBackend::start(|_| vec![Step::Hang]).await;
    let gateway = before(&[backend.address()], "").await;
    let mut client = Http1::connect(gateway.http()).await;
    client
        .send(format!("GET {PATH} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
        .await;
    let arrived = || async {
        if backend.requests() == 1 {
            Ok(())
        } else {
            Err("not yet")
        }
    };
    eventually("the request to arrive", Duration::from_secs(5), arrived).await;
    drop(client);
    let gone = || async {
        if backend.abandoned() == 1 {
            Ok(())
        } else {
            Err("not yet")
        }
    };
    eventually("the request to be given up", Duration::from_secs(2), gone).await;
}

#[tokio::test]
async fn a_dead_endpoint_costs_no_request_and_no_policy() {
    let (dead, live) = (super::support::closed().await, named("live").await);
    let gateway = before(&[dead, live.address()], "").await;
    for _ in 0..20 {
        assert_eq!(post(&gateway).await.text(), "live");
    }
    assert_eq!(live.requests(), 20);
}

const RETRY: &str = "    retry: { attempts: 3, on: [connect, reset, timeout, \"503\"], per_try_timeout: 300ms, backoff: { base: 1ms, max: 5ms } }\n";

#[tokio::test]
async fn reads_are_tried_again_as_the_route_says_and_writes_are_not() {
    for (what, steps) in [
        ("a 503", answer(503, &[], "busy")),
        ("a reset", vec![Step::Reset]),
        ("silence", vec![Step::Hang]),
    ] {
        let backend = first(steps.clone()).await;
        let gateway = before(&[backend.address()], RETRY).await;
        assert_eq!(
            (get(&gateway).await.text(), backend.requests()),
            ("well".to_owned(), 2),
            "{what}"
        );
        let backend = first(steps).await;
        let gateway = before(&[backend.address()], RETRY).await;
        assert!(post(&gateway).await.status >= 500, "{what}");
        assert_eq!(backend.requests(), 1, "a write after {what}");
    }
}

#[tokio::test]
async fn a_status_that_is_not_named_and_the_last_one_are_told_as_they_are() {
    let named = HttpBackend::start(|_| answer(503, &[("x-try", "1")], "busy")).await;
    let gateway = before(&[named.address()], RETRY).await;
    let told = get(&gateway).await;
    assert_eq!(
        (told.status, told.text(), told.header("x-try")),
        (503, "busy".to_owned(), Some("1"))
    );
    assert_eq!(named.requests(), 3);
    let other = HttpBackend::start(|_| answer(502, &[], "bad")).await;
    let gateway = before(&[other.address()], RETRY).await;
    assert_eq!((get(&gateway).await.status, other.requests()), (502, 1));
    let labels = [("cluster", "old"), ("outcome", "backend_error")];
    assert_eq!(
        count(&gateway, "highpress_upstream_attempts_total", &labels).await,
        1
    );
}

#[tokio::test]
async fn retry_after_is_waited_for_if_there_is_time() {
    let backend = first(answer(503, &[("retry-after", "1")], "")).await;
    let gateway = before(&[backend.address()], RETRY).await;
    let began = Instant::now();
    assert_eq!(get(&gateway).await.text(), "well");
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    let backend = first(answer(503, &[("retry-after", "60")], "")).await;
    let gateway = before(&[backend.address()], RETRY).await;
    let began = Instant::now();
    assert_eq!((get(&gateway).await.status, backend.requests()), (503, 1));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_key_makes_writes_safe_only_where_the_route_says_so() {
    let keyed = |request: &Received| request.header("idempotency-key").map(str::to_owned);
    let explicit = RETRY.replace("attempts: 3", "attempts: 3, dedupe: idempotency-key");
    for (route, requests) in [(RETRY, 1), (&*explicit, 2)] {
        let backend = first(answer(503, &[], "busy")).await;
        let gateway = before(&[backend.address()], route).await;
        post(&gateway).await;
        let keys: Vec<_> = backend.received().iter().map(keyed).collect();
        assert_eq!(
            keys.len(),
            requests,
            "the monolith is not the service that knows keys"
        );
        assert!(
            keys.windows(2)
                .all(|pair| pair[0].is_some() && pair[0] == pair[1]),
            "{keys:?}"
        );
    }
}

#[tokio::test]
async fn kept_connections_that_the_backend_has_closed_cost_no_read() {
    // Each answer is the last one on its connection, without saying so.
    let backend = HttpBackend::start(|_| {
        let mut steps = ok("well");
        steps.extend([Step::Wait(Duration::from_millis(5)), Step::Close]);
        steps
    })
    .await;
    let gateway = before(&[backend.address()], "").await;
    let mut client = Http1::connect(gateway.http()).await;
    for round in 0..60 {
        tokio::time::sleep(Duration::from_millis(round % 12)).await;
        assert_eq!(client.get(PATH).await.status, 200, "round {round}");
    }
}

#[tokio::test]
async fn a_cluster_of_http2_gets_the_request_as_it_is_too() {
    let seen = |seen: &Seen| {
        format!(
            "{} {} {}",
            seen.path,
            seen.headers["x-mine"].to_str().unwrap(),
            seen.body.len()
        )
    };
    let backend = Backend::start(move |request| {
        let text: &'static str = seen(request).leak();
        match request.number {
            0 => Answer::Reset(h2::Reason::REFUSED_STREAM),
            _ => Answer::http(418, "text/plain", text),
        }
    })
    .await;
    let other = Backend::start(|_| Answer::http(200, "text/plain", "other")).await;
    let cluster = http("old", backend.address()).replace("http1", "http2");
    let both = format!(
        "\", \"{}\"] }}, load_balancing: {{ policy: round_robin }}",
        other.address()
    );
    let cluster = cluster.replace("\"] }", &both);
    let gateway = gateway(&[cluster], &format!("{TRANSCODED}    to: old\n")).await;
    let mut client = Http1::connect(gateway.http()).await;
    let mut answers = Vec::new();
    for _ in 0..40 {
        let answer = client
            .request("POST", INCREMENT, &[("x-mine", "7")], Some(BODY))
            .await;
        answers.push((answer.status, answer.text()));
    }
    let teapot = (418, format!("{INCREMENT} 7 {}", BODY.len()));
    let is_one = |answer: &(u16, String)| *answer == teapot || *answer == (200, "other".to_owned());
    assert!(answers.iter().all(is_one), "{answers:?}");
    assert!(answers.contains(&teapot), "{answers:?}");
    assert_eq!(
        backend.calls() + other.calls(),
        41,
        "what was refused went elsewhere, once"
    );
    assert!(backend.connections() <= 4, "streams share connections");
}
