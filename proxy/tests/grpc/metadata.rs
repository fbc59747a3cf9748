//! Metadata and trailers of gRPC backends, as headers of JSON answers.

use testkit::stream_backend::{StreamBackend, StreamCall};
use testkit::{Http1, Response};

use super::setup::{echo, transcoding};

async fn ask<F>(
    options: &str,
    headers: &[(&str, &str)],
    handler: impl Fn(StreamCall) -> F + Send + Sync + 'static,
) -> Response
where
    F: Future<Output = Result<(), testkit::stream_backend::Cancelled>> + Send + 'static,
{
    let backend = StreamBackend::start(handler).await;
    let gateway = transcoding("counter.CounterService", (options, ""), &backend).await;
    let mut client = Http1::connect(gateway.http()).await;
    client
        .request("GET", "/api/v1/counter/a/like", headers, None)
        .await
}

#[tokio::test]
async fn it_has_the_names_that_the_route_wants() {
    let method = "/counter.CounterService/GetCounter";
    for (options, head, trailer) in [
        ("", "x-method", "x-trailer"),
        (", response_metadata: headers", "x-method", "x-trailer"),
        (
            ", response_metadata: prefixed",
            "grpc-metadata-x-method",
            "grpc-trailer-x-trailer",
        ),
    ] {
        let answer = ask(options, &[], echo).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header(head), Some(method), "{options}");
        assert_eq!(answer.header(trailer), Some("late"), "{options}");
        assert_eq!(answer.header("grpc-status"), None);
    }
    let answer = ask(", response_metadata: none", &[], echo).await;
    assert_eq!(answer.header("x-method"), None);
    assert_eq!(answer.header("x-trailer"), None);
}

#[tokio::test]
async fn failures_carry_it_and_the_gateways_own_words_stand() {
    let answer = ask(
        "",
        &[("x-request-id", "mine")],
        |call: StreamCall| async move {
            let said = [("x-why", "gone"), ("x-request-id", "theirs")];
            call.finish_with(5, "no such thing", &said)
        },
    )
    .await;
    assert_eq!((answer.status, answer.header("x-why")), (404, Some("gone")));
    assert_eq!(answer.header("x-request-id"), Some("mine"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn the_route_says_what_else_reaches_the_backend() {
    let headers = [
        ("x-tenant", "blue"),
        ("x-other", "1"),
        ("grpc-metadata-x-token-bin", "AAEC"),
        ("grpc-metadata-grpc-status", "0"),
        ("grpc-metadata-x-hop", "1"),
        ("grpc-metadata-x-garbled", "a\u{e9}"),
        ("grpc-metadata-x-garbled-bin", "***"),
        ("connection", "x-tenant-too, Grpc-Metadata-X-Hop"),
    ];
    let options = ", request_metadata: [x-tenant, connection-id]";
    let answer = ask(options, &headers, |mut call: StreamCall| async move {
        assert_eq!(call.headers["x-tenant"], "blue");
        assert_eq!(call.headers["x-token-bin"], "AAEC");
        let garbled = ["x-garbled", "x-garbled-bin"];
        for absent in ["x-other", "grpc-status", "connection", "x-hop"]
            .iter()
            .chain(&garbled)
        {
            assert!(!call.headers.contains_key(*absent), "{absent}");
        }
        call.send(b"").await?;
        call.finish(0, "")
    })
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_backend_that_says_when_to_come_again_is_heard() {
    // A `google.rpc.Status` with a `google.rpc.RetryInfo` of 7.5 s.
    let info = "CA4aNgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIKCggIBxCAyrXuAQ";
    for (name, said, heard) in [
        ("retry-after", "7", "7"),
        ("grpc-status-details-bin", info, "8"),
        ("x-other", "7", "1"),
    ] {
        let answer = ask("", &[], move |call: StreamCall| async move {
            call.finish_with(14, "busy", &[(name, said)])
        })
        .await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.header("retry-after"), Some(heard));
    }
}
