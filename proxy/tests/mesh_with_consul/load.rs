//! Clients that increment and read, each a counter of its own, and know what every answer has to be: an increment that was lost,
//! counted twice or answered with an error is seen at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Http1, Redis, Response};
use tokio::task::JoinSet;

const CLIENTS: usize = 6;
/// Between two requests of a client, so that the machine has time for everybody else.
const PAUSE: Duration = Duration::from_millis(2);

/// A load that goes on until it is stopped.
pub(crate) struct Load {
    gateway: SocketAddr,
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

/// A load between two requests of each client.
pub(crate) struct Paused {
    gateway: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicUsize,
    /// Acknowledged increments, by client.
    counted: [AtomicUsize; CLIENTS],
    failed: Mutex<Vec<String>>,
}

impl Paused {
    pub(crate) fn resume(self) -> Load {
        let Self { gateway, shared } = self;
        shared.stop.store(false, Relaxed);
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(client(number, gateway, shared.clone()));
        }
        Load {
            gateway,
            shared,
            clients,
        }
    }
}

impl Load {
    pub(crate) fn start(gateway: SocketAddr) -> Self {
        let shared = Arc::default();
        Paused { gateway, shared }.resume()
    }

    /// Waits for the answers to what is under way, and sends no more.
    pub(crate) async fn pause(mut self) -> Paused {
        self.shared.stop.store(true, Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("every request has an answer");
        }
        Paused {
            gateway: self.gateway,
            shared: self.shared,
        }
    }

    /// Waits until so many more requests have been answered, by whoever is in rotation now.
    pub(crate) async fn goes_on(&self, more: usize) {
        let before = self.shared.done.load(Relaxed);
        eventually("the load to go on", PATIENCE, async || {
            match self.shared.done.load(Relaxed) - before {
                done if done >= more => Ok(()),
                done => Err(format!("{done} of {more} answers")),
            }
        })
        .await;
    }

    /// Stops; none may have failed, and Redis holds exactly what was acknowledged.
    pub(crate) async fn stop(self, redis: &Redis) {
        let Paused { shared, .. } = self.pause().await;
        let (failed, done) = (shared.failed.lock().join("\n"), shared.done.load(Relaxed));
        assert!(failed.is_empty(), "of {done} requests failed:\n{failed}");
        assert!(done > 100, "only {done} requests");
        for (number, counted) in shared.counted.iter().enumerate() {
            let key = format!("counter:{}:like", resource(number));
            let held = redis.command(&["GET", &key]).await;
            assert_eq!(held, counted.load(Relaxed).to_string(), "{key}");
        }
        eprintln!("{done} requests, none failed, every increment counted once");
    }
}

async fn client(number: usize, gateway: SocketAddr, shared: Arc<Shared>) {
    let mut connection = Http1::connect(gateway).await;
    let resource = resource(number);
    let read = format!("/api/v1/counter/{resource}/like");
    let increment = format!(r#"{{"resource_id":"{resource}","counter_type":"like"}}"#);
    while !shared.stop.load(Relaxed) {
        let counted = shared.counted[number].fetch_add(1, Relaxed) + 1;
        let answer = connection
            .post_text("/api/v1/counter/increment", &increment)
            .await;
        shared.judge("increment", &resource, &answer, counted);
        let answer = connection.get(&read).await;
        shared.judge("read", &resource, &answer, counted);
        tokio::time::sleep(PAUSE).await;
    }
}

impl Shared {
    fn judge(&self, what: &str, resource: &str, answer: &Response, counted: usize) {
        self.done.fetch_add(1, Relaxed);
        let right = answer.status == 200 && answer.json()["data"]["current_value"] == counted;
        if !right {
            let (status, text) = (answer.status, answer.text());
            let line = format!("{what} of {resource}, {counted} expected: {status} {text}");
            self.failed.lock().push(line);
        }
    }
}

fn resource(client: usize) -> String {
    format!("client-{client}")
}
