//! Reads, as fast as they are answered, and a list of those that failed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use testkit::Http1;
use testkit::wait::{PATIENCE, eventually};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 4;
const PATH: &str = "/api/v1/counter/a/like";

/// A load that goes on until it is stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    tasks: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(gateway: SocketAddr) -> Self {
        let load = Self {
            stop: Arc::default(),
            done: Arc::default(),
            failed: Arc::default(),
            tasks: JoinSet::new(),
        };
        (0..CONNECTIONS).fold(load, |mut load, _| {
            let (stop, done, failed) = (load.stop.clone(), load.done.clone(), load.failed.clone());
            load.tasks.spawn(async move {
                let mut connection = Http1::connect(gateway).await;
                while !stop.load(Relaxed) {
                    let answer = connection.get(PATH).await;
                    if answer.status != 200 {
                        let text = format!("{}: {}", answer.status, answer.text());
                        failed.lock().await.push(text);
                    }
                    done.fetch_add(1, Relaxed);
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            });
            load
        })
    }

    /// Answers so far.
    pub(crate) fn done(&self) -> usize {
        self.done.load(Relaxed)
    }

    /// Waits for so many more answers.
    pub(crate) async fn reads(&self, more: usize) {
        let before = self.done();
        eventually(&format!("{more} more reads"), PATIENCE, async || {
            match self.done() - before {
                done if done > more => Ok(()),
                done => Err(done),
            }
        })
        .await;
    }

    /// Stops; none may have failed.
    pub(crate) async fn stop(mut self) {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("the load does not panic");
        }
        let (failed, done) = (self.failed.lock().await, self.done());
        assert!(done > 100, "only {done} reads");
        assert!(
            failed.is_empty(),
            "{} of {done} reads failed, first: {}",
            failed.len(),
            failed[0]
        );
    }
}
