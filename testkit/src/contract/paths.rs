//! Unknown paths, wrong methods, bodies that are too large.

use std::net::SocketAddr;

use super::{Client, Expected, counter, fresh};
use crate::http1::Http1;

/// 404 for paths that nobody has.
pub async fn unknown(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let not_found = Expected::Error(404, "Not found");
    let paths = [
        "/",
        "/nothing",
        "/api/v1",
        "/api/v1/counter",
        "/api/v1/counter/",
        "/api/v1/counter/a",
        "/api/v1/counter/a/b/c",
        "/api/v1/counter/hot",
        "/api/v1/Counter/a/b",
        "/api/v1/counters/a/b",
        "/api/v2/counter/a/b",
        "/api/v1/system",
        "/api/v1/system/nothing",
        "/counter.CounterService/GetCounter",
    ];
    for path in paths {
        client.get(path, &not_found).await;
        client.post(path, "{}", &not_found).await;
    }
    client.done();
}

/// 405, and what would have been right in `Allow`.
pub async fn methods(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let refused = Expected::Error(405, "Method not allowed");
    let cases = [
        (
            "/api/v1/counter/increment",
            "POST",
            ["GET", "PUT", "DELETE", "PATCH"],
        ),
        (
            "/api/v1/counter/batch",
            "POST",
            ["GET", "PUT", "DELETE", "PATCH"],
        ),
        (
            "/api/v1/counter/a/b",
            "GET",
            ["POST", "PUT", "DELETE", "PATCH"],
        ),
        (
            "/api/v1/counter/hot/like",
            "GET",
            ["POST", "PUT", "DELETE", "PATCH"],
        ),
        ("/api/v1/health", "GET", ["POST", "PUT", "DELETE", "PATCH"]),
        (
            "/api/v1/system/kafka",
            "GET",
            ["POST", "PUT", "DELETE", "PATCH"],
        ),
    ];
    for (path, right, wrong) in cases {
        for method in wrong {
            let answer = client.check(method, path, &[], Some(b"{}"), &refused).await;
            let allowed: Vec<&str> = answer
                .header("allow")
                .unwrap_or_default()
                .split(',')
                .map(str::trim)
                .collect();
            if !allowed.contains(&right) || allowed.contains(&method) {
                client.note(
                    &format!("{method} {path}"),
                    &format!("Allow is {allowed:?}"),
                    &answer,
                );
            }
        }
    }
    client.done();
}

/// 413 for a body over the limit of 4 MiB, however its length is told; below it a large one is only read.
pub async fn too_large(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let path = "/api/v1/counter/increment";
    let id = fresh("large");
    let body = |padding: usize| {
        format!(
            r#"{{"resource_id":"{id}","counter_type":"like","x":"{}"}}"#,
            "x".repeat(padding)
        )
    };

    let expected = Expected::Data(super::incremented(&id, "like", 1));
    client.post(path, body(3 << 20), &expected).await;
    client
        .post(
            path,
            body(4 << 20),
            &Expected::Error(413, "Request too large"),
        )
        .await;

    let head =
        format!("POST {path} HTTP/1.1\r\nhost: {gateway}\r\ncontent-type: application/json\r\n");
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    // The length alone is enough to refuse; without one, what comes.
    let told = format!("{head}content-length: {}\r\n\r\n", 1_u64 << 40);
    let chunked = format!(
        "{head}transfer-encoding: chunked\r\n\r\n{}",
        chunk.repeat(5)
    );
    for (how, request) in [("content-length", told), ("chunked", chunked)] {
        let mut connection = Http1::connect(gateway).await;
        connection.send(request.as_bytes()).await;
        let answer = connection.response(false).await;
        if let Err(why) = super::compare(
            &answer,
            &Expected::Error(413, "Request too large"),
            &(0..=0),
        ) {
            client.note(how, &why, &answer);
        }
    }
    client
        .get(
            &format!("/api/v1/counter/{id}/like"),
            &Expected::Data(counter(&id, "like", 1)),
        )
        .await;
    client.done();
}
