//! The kit's own servers and clients against each other: what all other tests stand on.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::net::SocketAddr;

use prost_reflect::prost::Message;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, ServiceDescriptorProto,
};
use testkit::echo::{Echo, Failure};
use testkit::h2c::H2c;
use testkit::prometheus::Prometheus;
use testkit::{Http1, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers each connection's first read with `answer` and closes.
async fn canned(answer: impl Into<String>) -> SocketAddr {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

/// `package t; message M { string s = 1; } service S { rpc Echo(M) returns (M); }`
fn echo_service() -> Vec<u8> {
    let field = FieldDescriptorProto {
        name: Some("s".to_owned()),
        number: Some(1),
        label: Some(Label::Optional.into()),
        r#type: Some(Type::String.into()),
        ..FieldDescriptorProto::default()
    };
    let message = DescriptorProto {
        name: Some("M".to_owned()),
        field: vec![field],
        ..DescriptorProto::default()
    };
    let method = MethodDescriptorProto {
        name: Some("Echo".to_owned()),
        input_type: Some(".t.M".to_owned()),
        output_type: Some(".t.M".to_owned()),
        ..MethodDescriptorProto::default()
    };
    let service = ServiceDescriptorProto {
        name: Some("S".to_owned()),
        method: vec![method],
        ..ServiceDescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("t.proto".to_owned()),
        package: Some("t".to_owned()),
        message_type: vec![message],
        service: vec![service],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

#[tokio::test]
async fn http1_reads_lengths_chunks_and_ends_of_connections() {
    let length = canned("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}").await;
    let answer = Http1::connect(length).await.get("/").await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json::parse(b"{\"a\":1}"))
    );

    let chunks = canned("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: 1\r\n\r\n").await;
    let answer = Http1::connect(chunks).await.get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (404, "abcde"));

    let close = canned("HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nto the end").await;
    let mut client = Http1::connect(close).await;
    let answer = client.get("/").await;
    assert_eq!(
        (answer.text().as_str(), answer.header("x-a")),
        ("to the end", Some("b"))
    );
    client.expect_close().await;
}

#[tokio::test]
async fn the_echo_backend_serves_a_service_from_its_descriptor() {
    let set = echo_service();
    let echo = Echo::start(&set).await;
    let client = H2c::connect(echo.address).await;

    let reply = client
        .grpc("/t.S/Echo", &[("x-k", "v")], b"\x0a\x02hi")
        .await;
    assert_eq!(
        (reply.code, reply.body.as_ref()),
        (0, b"\x0a\x02hi".as_slice())
    );
    let received = echo.received();
    assert_eq!(received[0].headers["x-k"], "v");
    assert_eq!(
        received[0].message.get_field_by_name("s").unwrap().as_str(),
        Some("hi")
    );

    assert_eq!(client.grpc("/t.S/Other", &[], b"").await.code, 12);
    assert_eq!(client.grpc("/t.S/Echo", &[], b"\x0a\x09hi").await.code, 13);

    let failing = Echo::with(&set, |_, _| {
        Err(Failure {
            code: 5,
            message: "gone".to_owned(),
            details: None,
        })
    })
    .await;
    let reply = H2c::connect(failing.address)
        .await
        .grpc("/t.S/Echo", &[], b"")
        .await;
    assert_eq!((reply.code, reply.message.as_str()), (5, "gone"));
}

#[tokio::test]
async fn prometheus_scrapes_what_it_is_given() {
    let page = "# TYPE a counter\na_total{k=\"x\"} 2\na_total{k=\"y\"} 3\n# EOF\n";
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0\r\nConnection: close";
    let page = format!("{head}\r\nContent-Length: {}\r\n\r\n{page}", page.len());
    let target = canned(page).await;
    let prometheus = Prometheus::start(&[("page", target)]).await;
    prometheus.expect("up{job=\"page\"}", 1.0).await;
    prometheus.expect("a_total", 5.0).await;
}
