//! Several workers at once, each with a thread and a runtime of its own, while the configuration changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use highpress_proxy::upstream::{Call, CallError, Cluster, Method, Terms, Upstreams};
use testkit::backend::{Answer, Backend, framed};
use tokio::runtime::{Builder, Handle};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use super::support::{LONG, clusters, entry};

/// Calls from the thread of one worker until told to stop; gives the errors.
fn worker(
    number: usize,
    cluster: Arc<Cluster>,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
) -> Vec<CallError> {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let callers = async move {
        let method = Method::new("/test.Service/Method").unwrap();
        let mut running = JoinSet::new();
        for _ in 0..32 {
            let (cluster, method) = (Arc::clone(&cluster), method.clone());
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            running.spawn_local(async move {
                let mut errors = Vec::new();
                while !stop.load(SeqCst) {
                    let deadline = Instant::now() + LONG;
                    let message: Bytes = framed(b"ask");
                    let call = Call {
                        method: &method,
                        metadata: &[],
                        message,
                        terms: Terms::until(deadline),
                        coding: None,
                        max_response: 100,
                    };
                    errors.extend(cluster.unary(number, call).await.err());
                    calls.fetch_add(1, SeqCst);
                }
                errors
            });
        }
        running.join_all().await.into_iter().flatten().collect()
    };
    LocalSet::new().block_on(&runtime, callers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_fail_no_call() {
    let slow = |_: &_| Answer::message(b"x").after(Duration::from_millis(2));
    let backends = [
        Backend::start(slow).await,
        Backend::start(slow).await,
        Backend::start(slow).await,
    ];
    let addresses = backends.each_ref().map(Backend::address);
    let upstreams = Upstreams::new(2, Handle::current());
    upstreams.apply(&clusters(&entry("c", &addresses, "")));
    let (stop, calls) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let threads = [0, 1].map(|number| {
        let (cluster, stop, calls) = (
            upstreams.get("c").unwrap(),
            Arc::clone(&stop),
            Arc::clone(&calls),
        );
        std::thread::spawn(move || worker(number, cluster, stop, calls))
    });
    for reload in 0..50 {
        // Endpoints leave and come back, policies and limits change.
        let left = &addresses[reload % 3..][..1];
        let policy = ["p2c", "round_robin", "random", "least_request"][reload % 4];
        let more = format!(
            "load_balancing: {{policy: {policy}}}, limits: {{requests: {}}}",
            64 + reload
        );
        upstreams.apply(&clusters(&entry(
            "c",
            if reload % 2 == 0 { left } else { &addresses },
            &more,
        )));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, SeqCst);
    let joined =
        tokio::task::spawn_blocking(|| threads.map(|thread| thread.join().expect("a worker")));
    let errors: Vec<_> = joined.await.unwrap().into_iter().flatten().collect();
    assert!(
        errors.is_empty(),
        "{} of {} calls failed, such as {}",
        errors.len(),
        calls.load(SeqCst),
        errors[0]
    );
    assert!(
        calls.load(SeqCst) > 1000,
        "only {} calls",
        calls.load(SeqCst)
    );
    assert_eq!(upstreams.get("c").unwrap().in_flight(), (0, 0));
}
