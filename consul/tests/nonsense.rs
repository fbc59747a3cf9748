//! A server that answers anything but sense: the watch says so, keeps its index, waits, and gets over it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_types)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use consul::{Client, Error, Expect, KeyQuery, ServiceQuery, State, Watch};
use parking_lot::Mutex;
use testkit::wait::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const LIST: &str = r#"[{"Node":{"Node":"n","Address":"10.0.0.1"},"Service":{"ID":"a","Service":"s","Port":7},"Checks":[]}]"#;

/// What the server does about a request.
#[derive(Clone)]
enum Reply {
    /// Writes this, then goes on.
    Bytes(Vec<u8>),
    /// Writes this and closes.
    Last(Vec<u8>),
    /// Writes this, a byte every so often.
    Trickle(Vec<u8>, Duration),
    /// Nothing, ever.
    Silence,
}

/// Replies one after the other; when they are used up, the last one again and again.
struct Scripted {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let replies = Arc::new(replies);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, replies.clone(), log.clone()));
            }
        });
        Self { address, asked }
    }

    fn client(&self) -> Client {
        Client::new(self.address.parse().unwrap(), Some("secret-token")).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }

    fn watch(&self, query: ServiceQuery) -> Watch<ServiceQuery> {
        Watch::new(self.client(), query)
    }
}

async fn serve(
    mut stream: TcpStream,
    replies: Arc<Vec<Reply>>,
    asked: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut read = Vec::new();
    loop {
        while !read.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut buffer = [0; 4096];
            let count = stream
                .read(&mut buffer)
                .await
                .ok()
                .filter(|count| *count > 0)?;
            read.extend_from_slice(&buffer[..count]);
        }
        let text = String::from_utf8_lossy(&read).into_owned();
        read.clear();
        let reply = {
            let mut asked = asked.lock();
            asked.push(text.lines().next().unwrap_or_default().to_owned());
            replies[(asked.len() - 1).min(replies.len() - 1)].clone()
        };
        match reply {
            Reply::Bytes(bytes) => stream.write_all(&bytes).await.ok()?,
            Reply::Last(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                return stream.shutdown().await.ok();
            }
            Reply::Trickle(bytes, pause) => {
                for byte in bytes {
                    stream.write_all(&[byte]).await.ok()?;
                    tokio::time::sleep(pause).await;
                }
            }
            Reply::Silence => std::future::pending().await,
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
            .into_bytes(),
    )
}

fn good(index: u64) -> Reply {
    answer("200 OK", &format!("x-consul-index: {index}\r\n"), LIST)
}

fn service() -> ServiceQuery {
    ServiceQuery {
        service: "s".to_owned(),
        ..ServiceQuery::default()
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers that mean nothing, and what is said of each.
fn nonsense() -> Vec<(&'static str, Reply)> {
    let ok = |body| answer("200 OK", "x-consul-index: 7\r\n", body);
    let bytes = |text: &str| text.as_bytes().to_vec();
    let cut = "HTTP/1.1 200 OK\r\nx-consul-index: 7\r\ncontent-length: 900\r\n\r\n[{\"Node\"";
    let long = "HTTP/1.1 200 OK\r\nx-consul-index: 9\r\ncontent-length: 1099511627776\r\n\r\n[";
    let leaderless = answer("500 Internal Server Error", "", "No cluster leader");
    let elsewhere = answer("302 Found", "location: http://elsewhere/\r\n", "");
    let missing = answer("404 Not Found", "x-consul-index: 7\r\n", "");
    vec![
        ("not JSON", ok("<html>it works</html>")),
        ("not a list", ok("{\"error\": 1}")),
        ("names no service", ok("[{}]")),
        ("No cluster leader", leaderless),
        ("status 302", elsewhere),
        ("status 404", missing),
        ("longer than", Reply::Bytes(bytes(long))),
        ("broke", Reply::Last(bytes(cut))),
        ("broke", Reply::Last(Vec::new())),
        ("broke", Reply::Last(bytes("SSH-2.0-OpenSSH_9.2\r\n"))),
        ("broke", Reply::Last(vec![b'x'; 300_000])),
    ]
}

#[tokio::test]
async fn nonsense_is_a_state_and_sense_ends_it() {
    for (expected, reply) in nonsense() {
        let server = Scripted::start(vec![good(5), reply, good(6)]).await;
        let mut watch = server.watch(service());
        let status = watch.status();
        assert_eq!(
            within("the first answer", PATIENCE, watch.next())
                .await
                .value
                .list
                .len(),
            1
        );
        assert_eq!(status.get().state, State::Current);

        let next = within(expected, PATIENCE, watch.next()).await;
        assert_eq!(next.meta.index, Some(6), "{expected}");
        let status = status.get();
        assert_eq!(
            (status.failures, status.answers),
            (1, 2),
            "{expected}: {status:?}"
        );
        let asked = server.asked();
        assert!(asked[1].contains("index=5&wait="), "{asked:?}");
        assert!(
            !asked[2].contains("index="),
            "what is so now is asked at once: {asked:?}"
        );
        assert_eq!(
            status.index, 6,
            "the index of the nonsense was believed: {expected}"
        );
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_status() {
    for (expected, reply) in [
        (
            "status 500: No cluster leader",
            answer("500 Internal Server Error", "", "No cluster leader"),
        ),
        (
            "nonsense: the answer is not JSON",
            answer("200 OK", "", "<html>"),
        ),
        (
            "403: the token lacks `service:read` on `s` (Permission denied)",
            answer("403 Forbidden", "", "Permission denied"),
        ),
        (
            "403: the token lacks `node:read` on `n1`",
            answer(
                "403 Forbidden",
                "",
                "token with AccessorID 'a' lacks permission 'node:read' on \"n1\" <secret-token>",
            ),
        ),
    ] {
        let server = Scripted::start(vec![reply]).await;
        let mut watch = server.watch(service());
        let status = watch.status();
        let failed = async {
            tokio::select! {
                seen = watch.next() => panic!("{seen:?}"),
                () = async {
                    while status.get().failures < 3 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                } => {}
            }
        };
        within("three failures", PATIENCE, failed).await;
        let State::Away(error) = status.get().state else {
            panic!("{:?}", status.get())
        };
        assert!(error.to_string().starts_with(expected), "{error}");
        assert!(!error.to_string().contains("secret-token"), "{error}");
    }
}

#[tokio::test]
async fn an_index_is_reset_when_it_goes_backwards_and_never_zero() {
    let no_index = answer("200 OK", "", LIST);
    let zero = answer("200 OK", "x-consul-index: 0\r\n", LIST);
    let huge = answer("200 OK", "x-consul-index: 18446744073709551615\r\n", LIST);
    let server = Scripted::start(vec![
        good(50),
        good(3),
        good(4),
        no_index,
        zero,
        huge,
        good(60),
        Reply::Silence,
    ])
    .await;
    let mut watch = server.watch(service());
    for _ in 0..7 {
        within("an answer", PATIENCE, watch.next()).await;
    }
    let index = |line: &String| {
        let (_, rest) = line.split_once("index=").unwrap_or_default();
        rest.split('&').next().unwrap_or_default().to_owned()
    };
    let asked: Vec<String> = server.asked().iter().map(index).collect();
    assert_eq!(asked[..7], ["", "50", "", "4", "1", "1", "1"]);
}

#[tokio::test]
async fn a_server_that_does_not_block_is_not_hammered() {
    for (reply, most) in [
        (answer("200 OK", "", LIST), 8),
        (answer("500 Oops", "", ""), 60),
    ] {
        let server = Scripted::start(vec![reply]).await;
        let mut watch = server.watch(service());
        let all = async {
            loop {
                watch.next().await;
            }
        };
        let _: Result<(), _> = tokio::time::timeout(Duration::from_secs(3), all).await;
        let asked = server.asked().len();
        assert!((2..=most).contains(&asked), "{asked} queries in 3 s");
    }
}

#[tokio::test]
async fn a_hot_service_is_followed_at_a_pace() {
    let replies = (1..=500).map(good).collect();
    let server = Scripted::start(replies).await;
    let mut watch = server.watch(service());
    let all = async {
        loop {
            watch.next().await;
        }
    };
    let _: Result<(), _> = tokio::time::timeout(Duration::from_secs(3), all).await;
    let asked = server.asked().len();
    assert!(
        (30..=55).contains(&asked),
        "a burst of 20 and 10 a second: {asked} in 3 s"
    );
}

#[tokio::test]
async fn silence_and_trickles_end() {
    let trickle = Reply::Trickle(
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[                                  "
            .to_vec(),
        Duration::from_millis(400),
    );
    // The head is there at once, the body never ends.
    let endless = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".as_slice(),
        &[b' '; 1000],
    ];
    let (silence, trickle, endless) = tokio::join!(
        ended(Reply::Silence),
        ended(trickle),
        ended(Reply::Bytes(endless.concat())),
    );
    assert_eq!(silence, ("answer", 5));
    assert_eq!(trickle, ("answer", 5));
    assert_eq!(endless, ("end of the answer", 10));
}

/// What was waited for in vain, and for how many seconds.
async fn ended(reply: Reply) -> (&'static str, u64) {
    let server = Scripted::start(vec![reply]).await;
    let started = Instant::now();
    let ended = within("an end", PATIENCE, server.client().get("k")).await;
    match ended {
        Err(Error::Timeout { what, .. }) => (what, started.elapsed().as_secs()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_is_too_old_is_asked_of_the_leader() {
    let old = answer(
        "200 OK",
        "x-consul-index: 7\r\nx-consul-lastcontact: 60000\r\nx-consul-knownleader: true\r\n",
        LIST,
    );
    let leaderless = answer(
        "200 OK",
        "x-consul-index: 7\r\nx-consul-lastcontact: 0\r\nx-consul-knownleader: false\r\n",
        LIST,
    );
    let server = Scripted::start(vec![old, good(8), leaderless, good(9), Reply::Silence]).await;
    let mut watch = server.watch(ServiceQuery {
        max_stale: Some(Duration::from_secs(5)),
        ..service()
    });
    for _ in 0..2 {
        within("an answer of the leader", PATIENCE, watch.next()).await;
    }
    let stale: Vec<bool> = server
        .asked()
        .iter()
        .map(|line| line.contains("stale"))
        .collect();
    assert_eq!(stale[..4], [true, false, true, false]);
    assert_eq!(watch.status().get().failures, 2);
}

#[tokio::test]
async fn a_missing_key_is_consuls_word_only() {
    let missing = answer("404 Not Found", "x-consul-index: 7\r\n", "");
    let proxy = answer(
        "404 Not Found",
        "server: nginx\r\n",
        "<html>nothing here</html>",
    );
    let server = Scripted::start(vec![missing, proxy]).await;
    let client = server.client();
    assert_eq!(client.get("k").await, Ok(None));
    assert!(matches!(client.get("k").await, Err(Error::Nonsense(_))));
    let query = KeyQuery {
        key: "a b/c".to_owned(),
        datacenter: None,
    };
    assert_eq!(consul::Query::name(&query), "key a b/c");
}

#[tokio::test]
async fn a_value_that_consul_would_refuse_is_not_sent() {
    let server = Scripted::start(vec![answer("200 OK", "", "true")]).await;
    let client = server.client();
    let most = vec![b'x'; consul::MAX_VALUE];
    assert_eq!(
        client.put("k", most.clone(), Expect::Anything).await,
        Ok(true)
    );
    let error = client
        .put("k", [most, vec![b'x']].concat(), Expect::Anything)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("512 KiB"), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_connection_that_closed_while_idle_costs_no_failure() {
    let kv = r#"[{"Key":"k","Value":"aGk=","ModifyIndex":3}]"#;
    let length = kv.len();
    let closing = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{kv}").into_bytes();
    let server = Scripted::start(vec![Reply::Last(closing)]).await;
    let client = server.client();
    for _ in 0..20 {
        let entry = client.get("k").await.unwrap().unwrap();
        assert_eq!(entry.value.as_ref(), b"hi");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
