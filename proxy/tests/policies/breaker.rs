//! The breaker of each endpoint: when it rejects, probes and admits again, and whose failures count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde_json::json;
use testkit::backend::{Answer, Backend};
use testkit::wait::{PATIENCE, eventually};
use testkit::{Http1, Metrics};

use super::scripted::{Mesh, READ, always, ok, status, unavailable};

/// Rejects when five of ten or more have failed, for half a second at first.
const BREAKER: &str =
    "breaker: { min_requests: 10, hold: 500ms, max_hold: 1s, probes: 2, slow_call: 10s }";

/// A backend that fails until it is told otherwise.
async fn failing_until() -> (Backend, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let told = well.clone();
    let script = move |_: &_| {
        if told.load(SeqCst) {
            ok()
        } else {
            unavailable()
        }
    };
    (Backend::start(script).await, well)
}

async fn until_breaker(mesh: &Mesh, word: &str) {
    eventually(&format!("the breaker to {word}"), PATIENCE, || async {
        let endpoint = mesh.endpoint(0).await;
        (endpoint["breaker"] == word).then_some(()).ok_or(endpoint)
    })
    .await;
}

#[tokio::test]
async fn it_rejects_at_the_tenth_failure_probes_and_admits_again() {
    let (backend, well) = failing_until().await;
    let mesh = Mesh::start(&[&backend], BREAKER, "").await;
    assert_eq!(mesh.reads(9).await, [503; 9]);
    assert_eq!(mesh.endpoint(0).await["breaker"], "admit");
    assert_eq!(mesh.reads(1).await, [503]);
    let endpoint = mesh.endpoint(0).await;
    assert_eq!(
        (&endpoint["breaker"], &endpoint["usable"]),
        (&json!("reject"), &json!(true))
    );
    let refused = mesh.client().await.get(READ).await;
    assert_eq!((refused.status, backend.calls()), (503, 10));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let error = refused.json();
    assert_eq!(error["details"][0]["reason"], "CIRCUIT_OPEN", "{error}");
    assert_eq!(error["code"], 14);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("next probe in") && message.contains("10 of 10 calls failed"),
        "{message}"
    );

    // One probe fails: it is all that gets through, and the hold doubles.
    until_breaker(&mesh, "probe").await;
    assert_eq!(mesh.reads(5).await, [503; 5]);
    assert_eq!(
        (backend.calls(), &mesh.endpoint(0).await["breaker"]),
        (11, &json!("reject"))
    );
    let again = tokio::time::Instant::now();
    well.store(true, SeqCst);
    until_breaker(&mesh, "probe").await;
    assert!(
        again.elapsed() > Duration::from_millis(700),
        "{:?}",
        again.elapsed()
    );

    assert_eq!(mesh.reads(2).await, [200; 2]);
    assert_eq!(mesh.endpoint(0).await["breaker"], "admit");
    assert_eq!(mesh.reads(20).await, [200; 20]);
    for said in [
        "a breaker rejects for 500ms: 10 of 10 calls failed",
        "a breaker probes",
        "a breaker admits",
    ] {
        mesh.gateway.program.line_with(said).await;
    }
}

#[tokio::test]
async fn no_more_than_the_probes_get_through_at_once() {
    let slow = Arc::new(AtomicBool::new(false));
    let told = slow.clone();
    let backend = Backend::start(move |_| {
        if told.load(SeqCst) {
            ok().after(Duration::from_millis(300))
        } else {
            unavailable()
        }
    })
    .await;
    let mesh = Mesh::start(&[&backend], BREAKER, "").await;
    mesh.reads(10).await;
    slow.store(true, SeqCst);
    until_breaker(&mesh, "probe").await;
    let reads = (0..12).map(|_| async { mesh.client().await.get(READ).await.status });
    let statuses = join_all(reads).await;
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!((served, backend.calls()), (2, 12), "{statuses:?}");
    until_breaker(&mesh, "admit").await;
}

#[tokio::test]
async fn an_endpoint_that_rejects_leaves_its_share_to_the_others_and_gets_its_probes() {
    for policy in ["round_robin", "p2c", "random", "least_request"] {
        let ((ill, cured), (other, well)) = (failing_until().await, failing_until().await);
        let mesh = Mesh::balanced(&[&ill, &other], policy, BREAKER).await;
        let until = async |index: usize, word: &str| {
            let what = format!("{policy}: the breaker of endpoint {index} to {word}");
            eventually(&what, PATIENCE, || async {
                mesh.reads(5).await;
                let endpoint = mesh.endpoint(index).await;
                (endpoint["breaker"] == word).then_some(()).ok_or(endpoint)
            })
            .await;
        };
        until(0, "reject").await;
        well.store(true, SeqCst);
        until(1, "admit").await;
        // Nothing but a probe gets to the other one.
        let before = ill.calls();
        let statuses = mesh.reads(50).await;
        let probes = ill.calls() - before;
        assert!(
            probes <= 2,
            "{policy}: {probes} probes in a few milliseconds"
        );
        let lost = statuses.iter().filter(|status| **status != 200).count();
        assert_eq!(lost, probes, "{policy}: {statuses:?}");
        cured.store(true, SeqCst);
        until(0, "admit").await;
    }
}

#[tokio::test]
async fn what_is_the_caller_s_own_fault_does_not_count() {
    for code in ["3", "5", "6", "7", "9", "10", "11", "12", "16"] {
        let backend = always(status(code)).await;
        let mesh = Mesh::start(&[&backend], BREAKER, "").await;
        mesh.reads(15).await;
        assert_eq!(backend.calls(), 15, "grpc-status {code}");
    }
}

#[tokio::test]
async fn what_is_the_backend_s_fault_counts() {
    for answer in [
        status("2"),
        status("4"),
        status("8"),
        status("13"),
        status("14"),
        status("15"),
        Answer::Reset(h2::Reason::INTERNAL_ERROR),
        Answer::http(500, "text/plain", "oops"),
        Answer::chunks(vec![], &[("grpc-status", "0")]),
    ] {
        let backend = always(answer.clone()).await;
        let mesh = Mesh::start(&[&backend], BREAKER, "").await;
        mesh.reads(15).await;
        assert_eq!(backend.calls(), 10, "{answer:?}");
    }
}

#[tokio::test]
async fn timeouts_count_unless_the_caller_had_less_time_than_the_route() {
    let backend = always(Answer::Hang).await;
    let mesh = Mesh::start(&[&backend], BREAKER, "").await;
    impatient(&mesh, 15).await;
    assert_eq!(
        (backend.calls(), &mesh.endpoint(0).await["breaker"]),
        (15, &json!("admit"))
    );

    let slow = "breaker: { min_requests: 10, slow_call: 20ms, hold: 10s }";
    let mesh = Mesh::start(&[&backend], slow, "").await;
    impatient(&mesh, 15).await;
    assert_eq!(backend.calls(), 25, "slow counts whoever gave up");

    let short = "retry: { attempts: 1, per_try_timeout: 30ms }";
    let mesh = Mesh::start(&[&backend], BREAKER, short).await;
    assert_eq!(mesh.reads(10).await, [504; 10]);
    assert_eq!((mesh.reads(1).await, backend.calls()), (vec![503], 35));
}

/// Reads with less time than the route has.
async fn impatient(mesh: &Mesh, reads: usize) {
    let mut client = mesh.client().await;
    for _ in 0..reads {
        client
            .request("GET", READ, &[("x-request-timeout", "30ms")], None)
            .await;
    }
}

#[tokio::test]
async fn slow_answers_count_as_such() {
    let number = Arc::new(AtomicUsize::new(0));
    let backend = Backend::start(move |_| {
        // Nine of ten are slow.
        let slow = number.fetch_add(1, SeqCst) > 0;
        ok().after(Duration::from_millis(if slow { 60 } else { 0 }))
    })
    .await;
    let slow = "breaker: { min_requests: 10, slow_call: 50ms, slow_ratio: 90%, hold: 10s }";
    let mesh = Mesh::start(&[&backend], slow, "").await;
    assert_eq!(mesh.reads(12).await, [vec![200; 10], vec![503; 2]].concat());
    assert_eq!(backend.calls(), 10);
}

#[tokio::test]
async fn its_memory_survives_a_reload() {
    let backend = always(unavailable()).await;
    let long = BREAKER
        .replace("500ms", "30s")
        .replace("max_hold: 1s", "max_hold: 60s");
    let mesh = Mesh::start(&[&backend], &long, "").await;
    mesh.reads(10).await;
    mesh.configure(&long, "retry: {}");
    eventually("the reload", PATIENCE, || async {
        let metrics = Metrics::scrape(mesh.gateway.admin()).await;
        let reloads =
            metrics.counter_value("highpress_config_reloads_total", &[("result", "applied")]);
        (reloads > 0).then_some(()).ok_or("not reloaded")
    })
    .await;
    assert_eq!(mesh.endpoint(0).await["breaker"], "reject");
    assert_eq!((mesh.reads(2).await, backend.calls()), (vec![503; 2], 10));
    mesh.configure("", "");
    eventually("the breaker to be gone", PATIENCE, || async {
        mesh.reads(1).await;
        (backend.calls() > 10).then_some(()).ok_or("still rejected")
    })
    .await;
}

#[tokio::test]
async fn its_state_has_one_sample_per_endpoint() {
    let (failing, working) = (always(unavailable()).await, always(ok()).await);
    let mesh = Mesh::start(&[&failing, &working], BREAKER, "").await;
    mesh.reads(20).await;
    let metrics = Metrics::scrape(mesh.gateway.admin()).await;
    let state = |backend: &Backend| {
        let endpoint = backend.address().to_string();
        metrics.value(
            "highpress_breaker_state",
            &[("cluster", "c"), ("endpoint", &endpoint)],
        )
    };
    assert_eq!((state(&failing), state(&working)), (Some(2.0), Some(0.0)));
    let mut admin = Http1::connect(mesh.gateway.admin()).await;
    let told = admin
        .get(&format!("/explain?method=GET&path={READ}"))
        .await
        .text();
    let said = [
        "breaker reject (10 of 10 calls failed; the next probe in",
        "budget     tries beyond the first",
    ];
    assert!(said.iter().all(|said| told.contains(said)), "{told}");
}

/// All of them at once, as the runtime of a test has only one thread anyway.
async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<_> = running.iter().map(|_| None).collect();
    std::future::poll_fn(move |cx| {
        for (future, slot) in running.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *slot = Some(output);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(done.iter_mut().filter_map(Option::take).collect())
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}
