//! Plain HTTP to a backend that speaks it, beside transcoded routes.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::mesh::Gateway;
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
