//! One call: what goes out, and what every kind of answer becomes.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use highpress_proxy::upstream::{CallError, Reply};
use http::{HeaderName, HeaderValue};
use testkit::backend::{Answer, Backend, framed};
use testkit::raw_backend::{RawBackend, Reaction, frame};
use testkit::wait::{PATIENCE, eventually};
use tokio::time::Instant;

use super::support::{LONG, call, call_with, cluster};

/// What a call to a backend becomes that answers so.
async fn outcome(answer: Answer) -> Result<Reply, CallError> {
    let backend = Backend::start(move |_| answer.clone()).await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    call(&cluster, LONG).await
}

#[tokio::test]
async fn a_call_gets_its_message() {
    let backend =
        Backend::start(|seen| Answer::message(&[&seen.body[5..], b" answered"].concat())).await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    let reply = call(&cluster, LONG).await.unwrap();
    assert_eq!((reply.code, &reply.body[..]), (0, &b"ask answered"[..]));
}

#[tokio::test]
async fn a_request_is_what_grpc_asks_for() {
    let backend = Backend::start(|seen| {
        let shown = |name: &str| {
            seen.headers
                .get(name)
                .map_or("-", |value| value.to_str().unwrap_or("?"))
                .to_owned()
        };
        let names = [
            "te",
            "content-type",
            "grpc-timeout",
            "x-request-id",
            "user-agent",
        ]
        .map(shown);
        Answer::message(format!("{} {}", seen.path, names.join(" ")).as_bytes())
    })
    .await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    let metadata = [(
        HeaderName::from_static("x-request-id"),
        HeaderValue::from_static("id-7"),
    )];
    let reply = call_with(&cluster, Duration::from_secs(5), &metadata, b"ask", 1000)
        .await
        .unwrap();
    let said = String::from_utf8(reply.body.to_vec()).unwrap();
    let words: Vec<_> = said.split(' ').collect();
    assert_eq!(
        words[..3],
        ["/test.Service/Method", "trailers", "application/grpc"]
    );
    assert_eq!(words[4], "id-7");
    assert!(words[5].starts_with("highpress/"), "{said}");
    let (digits, unit) = words[3].split_at(words[3].len() - 1);
    let micros: u64 = digits.parse().unwrap();
    assert!(
        unit == "u" && (4_000_000..=5_000_000).contains(&micros),
        "{said}"
    );
}

#[tokio::test]
async fn messages_of_any_size_arrive_whole() {
    let backend = Backend::start(|seen| Answer::message(&seen.body[5..])).await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    for size in [0, 1, 100_000, 3 << 20] {
        let message = vec![7; size];
        let reply = call_with(&cluster, LONG, &[], &message, 4 << 20)
            .await
            .unwrap();
        assert!(
            reply.body == message,
            "{size} bytes went out, {} came back",
            reply.body.len()
        );
    }
}

#[tokio::test]
async fn how_an_answer_is_cut_into_frames_does_not_matter() {
    let bytes = framed(b"in pieces");
    let chunks = (0..bytes.len())
        .map(|index| bytes.slice(index..=index))
        .collect();
    let reply = outcome(Answer::chunks(chunks, &[("grpc-status", "0")]))
        .await
        .unwrap();
    assert_eq!(reply.body, "in pieces");
}

#[tokio::test]
async fn a_status_may_come_in_headers_or_in_trailers() {
    let entries = [
        ("grpc-status", "5"),
        ("grpc-message", "no%20such"),
        ("grpc-status-details-bin", "CAUSAm5v"),
        ("x-more", "y"),
    ];
    for answer in [
        Answer::trailers_only(&entries),
        Answer::chunks(vec![], &entries),
        Answer::chunks(vec![framed(b"?")], &entries),
    ] {
        let reply = outcome(answer).await.unwrap();
        assert_eq!(
            (reply.code, reply.message.as_str(), reply.body.len()),
            (5, "no such", 0)
        );
        assert_eq!(reply.details.as_deref(), Some(&b"\x08\x05\x12\x02no"[..]));
        assert_eq!(reply.trailers["x-more"], "y");
    }
}

#[tokio::test]
async fn answers_that_break_the_rules_have_their_codes() {
    let ok = [("grpc-status", "0")];
    let two = Bytes::from([framed(b"a"), framed(b"b")].concat());
    let cases = [
        ("OK without a message", Answer::chunks(vec![], &ok), 13),
        ("OK in the headers", Answer::trailers_only(&ok), 13),
        ("two messages", Answer::chunks(vec![two], &ok), 13),
        (
            "two messages in two frames",
            Answer::chunks(vec![framed(b"a"), framed(b"b")], &ok),
            13,
        ),
        (
            "a message cut short",
            Answer::chunks(vec![framed(b"abc").slice(..6)], &ok),
            13,
        ),
        (
            "a compressed message",
            Answer::chunks(vec![Bytes::from_static(&[1, 0, 0, 0, 1, 9])], &ok),
            13,
        ),
        ("no status", Answer::chunks(vec![framed(b"a")], &[]), 2),
        (
            "a status that is no number",
            Answer::chunks(vec![framed(b"a")], &[("grpc-status", "fine")]),
            2,
        ),
        ("a web page", Answer::http(200, "text/html", "<html>"), 2),
        (
            "a page that is not there",
            Answer::http(404, "text/html", "<html>"),
            12,
        ),
        (
            "a proxy's error",
            Answer::http(503, "text/plain", "upstream"),
            14,
        ),
        ("no right", Answer::http(403, "text/plain", ""), 7),
    ];
    for (what, answer, code) in cases {
        let got = match outcome(answer).await {
            Ok(reply) => reply.code,
            Err(error) => error.grpc_code(),
        };
        assert_eq!(got, code, "{what}");
    }
}

#[tokio::test]
async fn a_message_larger_than_accepted_is_refused() {
    let backend = Backend::start(|_| Answer::message(&[0; 2000])).await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    let error = call_with(&cluster, LONG, &[], b"", 1999).await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError::TooLarge {
                size: 2000,
                limit: 1999
            }
        ),
        "{error}"
    );
    assert_eq!(
        call_with(&cluster, LONG, &[], b"", 2000)
            .await
            .unwrap()
            .body
            .len(),
        2000
    );
}

#[tokio::test]
async fn resets_are_the_backend_s_failures() {
    for (reason, code) in [
        (Reason::NO_ERROR, 13),
        (Reason::INTERNAL_ERROR, 13),
        (Reason::REFUSED_STREAM, 14),
        (Reason::CANCEL, 13),
        (Reason::ENHANCE_YOUR_CALM, 14),
        (Reason::INADEQUATE_SECURITY, 13),
    ] {
        let error = outcome(Answer::Reset(reason)).await.unwrap_err();
        assert_eq!(error.grpc_code(), code, "{reason}: {error}");
    }
    let error = outcome(Answer::ResetMidway(Reason::INTERNAL_ERROR))
        .await
        .unwrap_err();
    assert!(
        matches!(error, CallError::Reset(Reason::INTERNAL_ERROR)),
        "{error}"
    );
}

#[tokio::test]
async fn at_the_deadline_the_stream_is_reset() {
    let backend = Backend::start(|_| Answer::Hang).await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    let started = Instant::now();
    let error = call(&cluster, Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::DeadlineExceeded), "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    until_cancelled(&backend, 1).await;
}

#[tokio::test]
async fn a_backend_that_cancels_at_the_deadline_met_the_deadline() {
    let backend = Backend::start(|seen| {
        // A backend whose clock started a little before ours.
        let timeout = seen.headers["grpc-timeout"].to_str().unwrap_or_default();
        let micros: u64 = timeout.trim_end_matches('u').parse().unwrap_or_default();
        Answer::Reset(Reason::CANCEL)
            .after(Duration::from_micros(micros) - Duration::from_millis(4))
    })
    .await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    let error = call(&cluster, Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::DeadlineExceeded), "{error}");
}

#[tokio::test]
async fn time_that_is_up_is_not_sent_on() {
    let backend = Backend::replying(b"x").await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    let error = call(&cluster, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, CallError::DeadlineExceeded), "{error}");
    assert_eq!(backend.calls(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_resets_its_stream() {
    let backend = Backend::start(|_| Answer::Hang).await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    let calling = tokio::spawn({
        let cluster = cluster.clone();
        async move { call(&cluster, LONG).await }
    });
    eventually("the call to arrive", PATIENCE, || async {
        (backend.calls() == 1).then_some(()).ok_or("no call")
    })
    .await;
    calling.abort();
    until_cancelled(&backend, 1).await;
    eventually("nothing in flight", PATIENCE, || async {
        let in_flight = cluster.view().endpoints[0].in_flight;
        (in_flight == 0 && cluster.in_flight() == (0, 0))
            .then_some(())
            .ok_or(in_flight)
    })
    .await;
}

#[tokio::test]
async fn garbage_is_an_error_and_nothing_worse() {
    let nonsense: [(&str, Vec<u8>); 6] = [
        (
            "HTTP/1.1",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ),
        ("zeros", vec![0; 64]),
        (
            "a frame that is too large",
            frame(0, 0, 1, &vec![0; 20_000]),
        ),
        ("headers that are not HPACK", frame(1, 4, 1, &[0xff; 40])),
        ("data before headers", frame(0, 1, 1, b"\0\0\0\0\0")),
        ("headers of nobody's stream", frame(1, 4, 77, &[0x88])),
    ];
    for (what, bytes) in nonsense {
        let backend = RawBackend::start(move |seen| match seen.kind {
            1 => Reaction::WriteAndClose(bytes.clone()),
            _ => Reaction::Ignore,
        })
        .await;
        let (_upstreams, cluster) = cluster(&[backend.address()], "");
        let error = call(&cluster, LONG).await.expect_err(what);
        assert!(!error.never_executed(), "{what}: {error}");
    }
}

async fn until_cancelled(backend: &Backend, calls: usize) {
    eventually("the backend to see the reset", PATIENCE, || async {
        (backend.cancelled() == calls)
            .then_some(())
            .ok_or(backend.cancelled())
    })
    .await;
}
