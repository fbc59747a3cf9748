//! Consul is away when a gateway starts: with a file, with what was kept, with nothing; and comes back.

use testkit::Consul;
use testkit::wait::{PATIENCE, eventually};

use super::setup::{Gateway, KEY, file, proxy, sends_to};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_alone_serves_and_readiness_says_what_is_not_known() {
    let mut consul = Consul::absent();
    let gateway = Gateway::start(&file(&consul, "")).await;
    assert_eq!(gateway.host().await, "file");
    let (status, text) = gateway.ready().await;
    assert_eq!(status, 503);
    assert!(text.contains("the configuration in Consul"), "{text}");
    gateway.program.line_with("starting without it").await;
    consul.restart().await;
    consul.put_key(KEY, &sends_to("key")).await;
    gateway.expect_host("key").await;
    assert_eq!(gateway.ready().await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_there_never_was_a_key_is_known_after_a_restart_too() {
    let mut consul = Consul::server().await;
    let text = file(&consul, "");
    let gateway = Gateway::start(&text).await;
    assert_eq!(gateway.ready().await.0, 200);
    let kept = gateway.directory.path().join("data/configuration.json");
    eventually("what is known to be kept", PATIENCE, async || {
        if kept.exists() {
            Ok(())
        } else {
            Err("nothing")
        }
    })
    .await;
    gateway.program.kill().await;
    consul.kill().await;
    let gateway = Gateway::start_in(gateway.directory, &text).await;
    assert_eq!(gateway.host().await, "file");
    let (status, text) = gateway.ready().await;
    assert_eq!(status, 200, "{text}");
    gateway.program.line_with("starting without it").await;
    consul.restart().await;
    consul.put_key(KEY, &sends_to("key")).await;
    gateway.expect_host("key").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_is_in_force_after_a_restart_and_only_the_good_one_is() {
    let mut consul = Consul::server().await;
    consul.put_key(KEY, &sends_to("kept")).await;
    let text = file(&consul, "");
    let gateway = Gateway::start(&text).await;
    gateway.expect_host("kept").await;
    consul.put_key(KEY, "clusters: 7\n").await;
    gateway.expect_rejected(&format!("kv:{KEY}")).await;

    // A bad key does not keep a gateway from starting with the last good one.
    gateway.program.kill().await;
    let gateway = Gateway::start_in(gateway.directory, &text).await;
    assert_eq!(gateway.host().await, "kept");
    gateway.expect_rejected(&format!("kv:{KEY}")).await;

    gateway.program.kill().await;
    consul.kill().await;
    let gateway = Gateway::start_in(gateway.directory, &text).await;
    assert_eq!(gateway.host().await, "kept");
    assert_eq!(gateway.ready().await.0, 200);
    let config = gateway.config().await;
    let state = config["kv"]["consul"].as_str().unwrap();
    assert!(state.starts_with("away: "), "{config}");
    // A change of the file does not undo what the key has replaced.
    std::fs::write(
        gateway.directory.path().join("mesh.yaml"),
        text + "overload: { memory: 900MiB }\n",
    )
    .unwrap();
    eventually("the file's change to be applied", PATIENCE, async || {
        let now = gateway.config().await;
        if now["version"] == config["version"] {
            Err(now.to_string())
        } else {
            Ok(())
        }
    })
    .await;
    assert_eq!(gateway.host().await, "kept");

    consul.restart().await;
    gateway.expect_rejected(&format!("kv:{KEY}")).await;
    consul.put_key(KEY, &sends_to("mended")).await;
    gateway.expect_host("mended").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_a_file_waits_for_its_key_and_says_so() {
    let mut consul = Consul::absent();
    let directory = tempfile::tempdir().unwrap();
    let mut program = Gateway::without_file(&consul, directory.path()).spawn();
    let line = program.line_with("waiting for the configuration").await;
    let admin = line
        .split("admin=")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let admin = admin.parse().expect("an address");
    let mut client = testkit::Http1::connect(admin).await;
    let answer = client.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains(KEY), "{}", answer.text());
    consul.restart().await;
    eventually("the missing key to be named", PATIENCE, async || {
        let mut client = testkit::Http1::connect(admin).await;
        let text = client.get("/readyz").await.text();
        if text.contains("no such key") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    consul.put_key(KEY, &sends_to("key")).await;
    program.wait_until_ready().await;
    let gateway = Gateway { program, directory };
    assert_eq!(gateway.host().await, "key");
    let config = gateway.config().await;
    let source = config["source"].as_str().unwrap();
    assert!(
        source.starts_with(&format!("kv:{KEY} (ModifyIndex ")),
        "{source}"
    );
    // Without a file there is nothing to fall back to: the last good one stays.
    consul.delete_key(KEY).await;
    let problems = gateway.expect_rejected(&format!("kv:{KEY}")).await;
    assert!(problems.contains("no such key"), "{problems}");
    assert_eq!(gateway.host().await, "key");
    gateway.program.kill().await;
    consul.kill().await;
    let again = Gateway::without_file(&consul, gateway.directory.path())
        .start()
        .await;
    let gateway = Gateway {
        program: again,
        directory: gateway.directory,
    };
    assert_eq!(gateway.host().await, "key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_has_nothing_but_mistakes_lists_them_and_ends_with_2() {
    let consul = Consul::dev().await;
    consul.put_key(KEY, "clusters: 7\nroutes: []\n").await;
    let directory = tempfile::tempdir().unwrap();
    let ended = Gateway::without_file(&consul, directory.path()).run().await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    for line in [":1: clusters: ", ":2: routes: "] {
        assert!(
            ended.output.contains(&format!("kv:{KEY}{line}")),
            "{}",
            ended.output
        );
    }
    let ended = proxy().arg("run").run().await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    assert!(ended.output.contains("--consul-kv"), "{}", ended.output);
}
