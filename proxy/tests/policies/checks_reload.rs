//! Health checks that come, change and go while the gateway runs.

use testkit::backend::Answer;

use super::checked::{
    Checked, NOT_SERVING, before, lines, unimplemented, until_applied, until_out, until_usable,
};

#[tokio::test]
async fn an_endpoint_in_use_stays_until_its_new_checks_fail_often_enough() {
    let (ill, well) = (
        Checked::start(unimplemented()).await,
        Checked::serving().await,
    );
    let mesh = before(&[&ill, &well], "").await;
    mesh.reads(4).await;
    // One check fails at once, the third a while later: it is never out for want of a check.
    mesh.configure("health_check: { interval: 400ms, unhealthy: 3 }", "");
    until_applied(&mesh, 1).await;
    ill.seen.until(1).await;
    assert_eq!(lines(&mesh, "an endpoint fails its checks"), 0);
    until_out(&mesh, 0, "check: gRPC UNIMPLEMENTED").await;
    assert!(ill.seen.count() >= 3);
}

#[tokio::test]
async fn what_is_known_outlives_other_rules_and_ends_with_the_check() {
    let (ill, well) = (
        Checked::start(unimplemented()).await,
        Checked::serving().await,
    );
    let mesh = before(&[&ill, &well], "health_check: { interval: 100ms }").await;
    until_out(&mesh, 0, "check: gRPC UNIMPLEMENTED").await;
    let calls = ill.calls();

    // Another question, which it would pass: it is out until that has been seen often enough.
    let tcp = "health_check: { protocol: tcp, interval: 150ms, healthy: 3 }";
    mesh.configure(tcp, "");
    until_usable(&mesh, 0, true).await;
    assert_eq!(ill.calls(), calls);
    mesh.reads(4).await;
    assert_eq!(ill.calls(), calls + 2);

    mesh.configure("health_check: { interval: 100ms }", "retry: {}");
    until_out(&mesh, 0, "check: gRPC UNIMPLEMENTED").await;
    // A reload of something else changes nothing.
    mesh.configure("health_check: { interval: 100ms }", "");
    until_applied(&mesh, 3).await;
    until_out(&mesh, 0, "check: gRPC UNIMPLEMENTED").await;
    assert_eq!(lines(&mesh, "an endpoint fails its checks"), 2);

    mesh.configure("", "");
    let endpoint = until_usable(&mesh, 0, true).await;
    assert!(endpoint["check"].is_null(), "{endpoint}");
    mesh.gateway
        .program
        .line_with("is not checked any more")
        .await;
    until_applied(&mesh, 4).await;
    let asked = ill.seen.count();
    assert_eq!(mesh.reads(10).await, [200; 10]);
    assert_eq!(ill.seen.count(), asked);
}

#[tokio::test]
async fn a_new_endpoint_waits_for_its_first_check() {
    let known = [Checked::serving().await, Checked::serving().await];
    let ill = Checked::start(Answer::message(NOT_SERVING)).await;
    let slow = Checked::start(Answer::Hang).await;
    let rules = "health_check: { interval: 100ms, timeout: 1s }";
    let mut mesh = before(&[&known[0], &known[1]], rules).await;
    mesh.reads(2).await;
    mesh.add(&[&ill.backend, &slow.backend]);
    mesh.configure(rules, "");
    // Whatever happens until then, nobody asks them.
    until_out(&mesh, 3, "new: ").await;
    assert_eq!(mesh.reads(10).await, [200; 10]);
    until_out(&mesh, 2, "check: gRPC NOT_SERVING").await;
    until_out(&mesh, 3, "check: timeout after 1s").await;
    assert_eq!(mesh.reads(10).await, [200; 10]);
    assert_eq!((ill.calls(), slow.calls()), (0, 0));

    for backend in [&ill, &slow] {
        backend.say(Answer::message(super::checked::SERVING));
    }
    until_usable(&mesh, 2, true).await;
    until_usable(&mesh, 3, true).await;
    assert_eq!(mesh.reads(12).await, [200; 12]);
    assert!(ill.calls() >= 3 && slow.calls() >= 3);
}
