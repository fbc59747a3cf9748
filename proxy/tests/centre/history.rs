//! What the history in Consul tells: each version once, whoever sees it.

use testkit::Consul;

use super::setup::{Gateway, KEY, entries, expect_entries, file, sends_to};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_is_written_once_however_many_gateways_see_it() {
    let consul = Consul::dev().await;
    let text = file(&consul, "");
    let gateways = [
        Gateway::start(&text).await,
        Gateway::start(&text).await,
        Gateway::start(&text).await,
    ];
    consul.put_key(KEY, &sends_to("one")).await;
    expect_entries(&consul, 1).await;
    consul.put_key(KEY, &sends_to("two")).await;
    expect_entries(&consul, 2).await;
    consul.put_key(KEY, "clusters: 7\n").await;
    expect_entries(&consul, 3).await;
    consul.delete_key(KEY).await;
    let all = expect_entries(&consul, 4).await;
    for gateway in &gateways {
        gateway.expect_host("file").await;
    }
    let (one, two, bad, deleted) = (&all[0], &all[1], &all[2], &all[3]);
    assert_eq!(one["value"], sends_to("one"));
    assert_eq!(one["author"], "observed");
    assert!(one["time"].as_str().unwrap().starts_with("20"), "{one}");
    assert!(one["rejected"].is_null());
    let added = sends_to("one").lines().count();
    let diff = one["diff"].as_str().unwrap();
    assert!(diff.starts_with("--- nothing\n+++ version "), "{diff}");
    let plus = diff.lines().skip(2).filter(|line| line.starts_with('+'));
    assert_eq!(plus.count(), added, "all of the first version is new");
    let diff = two["diff"].as_str().unwrap();
    assert!(
        diff.contains("-    redirect: { host: one }\n+    redirect: { host: two }\n"),
        "{diff}"
    );
    let problems = bad["rejected"]["problems"].to_string();
    assert!(
        problems.contains(&format!("kv:{KEY}:1: clusters: ")),
        "{bad}"
    );
    assert_eq!(deleted["deleted"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_last_versions_are_kept_and_values_of_512_kib_are() {
    let consul = Consul::dev().await;
    let gateway = Gateway::start(&file(&consul, "")).await;
    // As long as Consul takes; its quotes would not fit into an entry.
    let long = sends_to("long") + "# " + &"\"".repeat(500 << 10) + "\n";
    consul.put_key(KEY, &long).await;
    gateway.expect_host("long").await;
    let found = testkit::eventually(
        "an entry with its value beside it",
        testkit::wait::PATIENCE,
        async || {
            let keys = consul.keys(super::setup::HISTORY).await;
            if keys.len() == 2 {
                Ok(keys)
            } else {
                Err(format!("{keys:?}"))
            }
        },
    )
    .await;
    assert_eq!(consul.key(&found[1]).await, Some(long));
    for n in 0..55 {
        consul.put_key(KEY, &sends_to(&format!("n{n}"))).await;
        gateway.expect_host(&format!("n{n}")).await;
    }
    let all = expect_entries(&consul, 50).await;
    assert_eq!(all[49]["value"], sends_to("n54"));
    assert_eq!(all[0]["value"], sends_to("n5"));
    assert_eq!(entries(&consul).await.len(), 50);
}
