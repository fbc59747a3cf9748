//! What fails inside the gateway is told as gRPC tells it, and to nobody else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use testkit::Http1;
use testkit::h2c::{GrpcReply, H2c};
use testkit::mesh::Gateway;
use testkit::stream_backend::StreamCall;

use super::setup::{config, echo, mesh, transcoding};

const GET: &str = "/library.v1.Library/Get";
const GRPC: [(&str, &str); 1] = [("content-type", "application/grpc")];

/// The reason in the `ErrorInfo` of a reply.
fn says(reply: &GrpcReply, reason: &str) -> bool {
    let details = reply.trailers["grpc-status-details-bin"].as_bytes();
    let details = STANDARD_NO_PAD.decode(details).expect("base64");
    let details = String::from_utf8_lossy(&details).into_owned();
    details.contains(reason) && details.contains("google.rpc.ErrorInfo")
}

#[tokio::test]
async fn nobody_to_ask_is_unavailable() {
    let gateway = Gateway::start(&config("127.0.0.1:1", "")).await;
    let reply = H2c::connect(gateway.http()).await.grpc(GET, &[], b"").await;
    assert_eq!(reply.code, 14, "{}", reply.message);
    assert_eq!(reply.headers["content-type"], "application/grpc");
    assert!(reply.headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn methods_and_services_that_are_not_there_are_unimplemented() {
    let mesh = mesh("", echo).await;
    let client = mesh.client().await;
    for path in ["/nobody.v1.Here/Get", "/library.v1.Library/a/b", "/"] {
        let reply = client.grpc(path, &[], b"").await;
        assert_eq!(reply.code, 12, "{path}: {}", reply.message);
        assert!(says(&reply, "NOT_FOUND"), "{path}");
    }
    let get = client.request("GET", GET, &GRPC, b"").await;
    assert_eq!((get.status, get.header("grpc-status")), (200, Some("12")));
    assert_eq!(mesh.backend.calls(), 0);
}

#[tokio::test]
async fn what_is_no_grpc_is_told_in_json() {
    let mesh = mesh("", echo).await;
    let client = mesh.client().await;
    let answer = client
        .request("POST", GET, &[("content-type", "text/plain")], b"{}")
        .await;
    assert_eq!(answer.status, 415, "{}", answer.text());
    assert!(answer.text().contains("NOT_GRPC"), "{}", answer.text());
    assert_eq!(mesh.backend.calls(), 0);
}

#[tokio::test]
async fn time_that_is_up_is_deadline_exceeded() {
    let mesh = mesh(", timeout: 300ms", |mut call: StreamCall| async move {
        call.begin()?;
        Err(call.cancelled().await)
    })
    .await;
    let client = mesh.client().await;
    for path in [GET, "/counter.CounterService/GetCounter"] {
        let reply = client.grpc(path, &[], b"").await;
        assert_eq!(reply.code, 4, "{path}: {}", reply.message);
    }
    let reply = client.grpc(GET, &[("grpc-timeout", "50m")], b"").await;
    assert_eq!(reply.code, 4, "{}", reply.message);
}

#[tokio::test]
async fn limits_say_that_something_is_exhausted() {
    let mesh = mesh(", rate_limit: { requests: 1, per: 1h }", echo).await;
    let client = mesh.client().await;
    assert_eq!(client.grpc(GET, &[], b"").await.code, 0);
    let reply = client.grpc(GET, &[], b"").await;
    assert_eq!(reply.code, 8, "{}", reply.message);
    assert!(says(&reply, "RATE_LIMITED"));
}

#[tokio::test]
async fn a_stream_that_breaks_has_a_status_at_its_end() {
    let mesh = mesh("", |mut call: StreamCall| async move {
        call.send(b"x").await?;
        call.message().await?;
        call.reset(h2::Reason::INTERNAL_ERROR);
        Ok(())
    })
    .await;
    let mut call = mesh.client().await.open("POST", GET, &GRPC).await;
    call.head().await;
    assert!(call.piece().await.is_some());
    call.message(b"", false);
    assert_eq!(call.piece().await, None);
    assert_eq!(call.trailers().await["grpc-status"], "13");
}

#[tokio::test]
async fn transcoded_methods_answer_grpc_at_their_own_path() {
    let backend = testkit::StreamBackend::start(echo).await;
    let options = (", unannotated: true", "");
    let gateway = transcoding("counter.CounterService", options, &backend).await;
    let path = "/counter.CounterService/GetCounter";
    let reply = H2c::connect(gateway.http())
        .await
        .grpc(path, &[], b"\x0a\x01a")
        .await;
    assert_eq!((reply.code, &reply.body[..]), (0, &b"\x0a\x01a"[..]));
    let mut client = Http1::connect(gateway.http()).await;
    let json = client.post_text(path, "{\"resourceId\":\"a\"}").await;
    assert_eq!(
        (json.status, json.text()),
        (200, "{\"resourceId\":\"a\"}".to_owned())
    );
}

#[tokio::test]
async fn what_is_passed_on_is_told() {
    let mesh = mesh("", echo).await;
    let file = mesh.gateway.config();
    let told = |arguments: Vec<String>| async move {
        let ended = testkit::Program::new("highpress-proxy")
            .args(arguments)
            .run()
            .await;
        assert!(ended.status.success(), "{}", ended.output);
        ended.output
    };
    let file = file.display().to_string();
    let routes = told(vec!["routes".to_owned(), file.clone()]).await;
    assert!(routes.contains("(gRPC passed through)"), "{routes}");
    let question = [
        "explain",
        &file,
        "POST",
        "/counter.CounterService/GetCounter",
        "-H",
        "content-type: application/grpc-web",
    ];
    let explained = told(question.map(str::to_owned).to_vec()).await;
    let expected =
        "becomes    gRPC /counter.CounterService/GetCounter, from gRPC-Web (one message each way)";
    assert!(explained.contains(expected), "{explained}");
}
