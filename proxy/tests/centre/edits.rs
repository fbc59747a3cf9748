//! Keys that are edited well, badly, by two at once, and deleted.

use std::time::{Duration, Instant};

use testkit::wait::{PATIENCE, eventually};
use testkit::{Consul, Http1};

use super::setup::{Gateway, KEY, file, sends_to};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_replace_those_of_the_file_as_a_whole_until_they_are_deleted() {
    let consul = Consul::dev().await;
    let gateway = Gateway::start(&file(&consul, "")).await;
    assert_eq!(gateway.host().await, "file");
    assert_eq!(gateway.ready().await.0, 200);
    let first = gateway.config().await;
    assert_eq!(first["kv"]["key"], KEY);
    assert!(first["kv"]["modify_index"].is_null(), "{first}");

    consul.put_key(KEY, &sends_to("one")).await;
    gateway.expect_host("one").await;
    let one = gateway.config_after(&first).await;
    let source = one["source"].as_str().unwrap();
    let path = gateway.directory.path().join("mesh.yaml");
    let index = one["kv"]["modify_index"].as_u64().unwrap();
    assert_eq!(
        source,
        format!("{}, kv:{KEY} (ModifyIndex {index})", path.display())
    );
    assert!(one["rejected"].is_null());

    // Refused as a whole: the route that is right does not come into force either.
    let bad = sends_to("bad")
        + "  - name: wrong\n    match: { path_prefix: /x }\n    to: nowhere\n    timeout: 5\n";
    consul.put_key(KEY, &bad).await;
    let problems = gateway.expect_rejected(&format!("kv:{KEY}")).await;
    for part in [
        &format!("kv:{KEY}:9: routes[1].to: there is no cluster `nowhere`"),
        &format!("kv:{KEY}:10: routes[1].timeout: `5` has no unit"),
    ] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
    assert_eq!(gateway.host().await, "one");
    assert_eq!(gateway.config().await["version"], one["version"]);
    gateway.program.line_with("configuration refused").await;
    // What does not compile is as wrong as what cannot be read.
    let service = "routes: [{ name: a, transcode: { services: [no.Such] }, to: none }]\n\
                   clusters: [{ name: none, protocol: grpc, endpoints: { static: [\"127.0.0.1:1\"] } }]\n";
    consul.put_key(KEY, service).await;
    eventually("the missing service to be named", PATIENCE, async || {
        let config = gateway.config().await["rejected"]["problems"].to_string();
        let named = config.contains(&format!("kv:{KEY}:1: routes[0].transcode.services[0]"));
        if named { Ok(()) } else { Err(config) }
    })
    .await;

    // A file that changes meanwhile is not applied without the key; a good key is, with it.
    consul.put_key(KEY, &sends_to("two")).await;
    gateway.expect_host("two").await;
    let two = gateway.config_after(&one).await;
    assert!(two["rejected"].is_null(), "{two}");
    assert_eq!(two["history"].as_array().unwrap().len(), 3, "{two}");

    consul.delete_key(KEY).await;
    gateway.expect_host("file").await;
    gateway.program.line_with("the key was deleted").await;
    let last = gateway.config_after(&two).await;
    assert_eq!(last["version"], first["version"]);
    assert_eq!(last["source"], path.display().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_and_a_key_are_both_watched_and_a_problem_names_its_source() {
    let consul = Consul::dev().await;
    consul.put_key(KEY, &sends_to("key")).await;
    let gateway = Gateway::start(&file(&consul, "")).await;
    assert_eq!(gateway.host().await, "key");
    let before = gateway.config().await;
    let path = gateway.directory.path().join("mesh.yaml");
    let text = file(&consul, "");
    std::fs::write(&path, format!("{text}overload: {{ memory: 900MiB }}\n")).unwrap();
    let config = gateway.config_after(&before).await;
    let summary = config["history"][0]["summary"].as_str().unwrap();
    assert!(summary.contains("overload"), "{config}");
    assert_eq!(gateway.host().await, "key");

    std::fs::write(&path, format!("{text}overlod: {{ memory: 900MiB }}\n")).unwrap();
    gateway.program.reload();
    let problems = gateway.expect_rejected(&path.display().to_string()).await;
    let line = text.lines().count() + 1;
    let expected = format!("{}:{line}: overlod: unknown key", path.display());
    assert!(problems.contains(&expected), "{problems}");
    // Both are wrong now, and both say so.
    consul.put_key(KEY, "routes: []\n").await;
    let both = format!("{}, kv:{KEY}", path.display());
    let problems = gateway.expect_rejected(&both).await;
    assert!(problems.contains(&expected), "{problems}");
    assert!(
        problems.contains(&format!("kv:{KEY}:1: routes: this list is empty")),
        "{problems}"
    );
    assert_eq!(gateway.host().await, "key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boot_settings_wait_for_a_restart_and_hold_after_it() {
    let consul = Consul::dev().await;
    let text = file(&consul, "").replace("threads: 1\n", "");
    let gateway = Gateway::start(&text).await;
    let boot = "admin: { address: \"127.0.0.2:0\" }\nthreads: 2\n";
    consul.put_key(KEY, &(sends_to("boot") + boot)).await;
    gateway.expect_host("boot").await;
    eventually("the settings to be named", PATIENCE, async || {
        let named = gateway.config().await["restart_needed"].to_string();
        let expected = r#"["admin","threads"]"#;
        if named == expected {
            Ok(())
        } else {
            Err(named)
        }
    })
    .await;
    let line = gateway.program.line_with("need a restart").await;
    assert!(line.contains("admin, threads"), "{line}");
    gateway.program.kill().await;
    let again = Gateway::start_in(gateway.directory, &text).await;
    assert_eq!(again.program.address("admin").ip().to_string(), "127.0.0.2");
    assert_eq!(again.config().await["restart_needed"].to_string(), "[]");
    assert_eq!(again.host().await, "boot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_key_says_of_consul_counts_for_clusters_only() {
    let consul = Consul::dev().await;
    let other = Consul::dev().await;
    let counter = testkit::Program::new("highpress-counter")
        .args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--store",
            "memory",
        ])
        .start()
        .await;
    let at = counter.address("grpc");
    other
        .register("high-go-press-counter", "one", at, serde_json::json!({}))
        .await;
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "consul: {{ address: \"{}\", kv: some/where/else }}\n\
         clusters: [{{ name: c, protocol: grpc, endpoints: {{ consul: {{ service: high-go-press-counter }} }} }}]\n\
         routes: [{{ name: r, match: {{ path_prefix: /api/v1/counter/ }}, transcode: {{ services: [counter.CounterService], profile: phase1 }}, to: c }}]\n",
        other.url()
    );
    consul.put_key(KEY, &text).await;
    // `--consul` beats the key's address for clusters too: without it, the file's is beaten by the key's.
    let gateway = Gateway::start_in(directory, &file(&consul, "")).await;
    let http = gateway.program.address("http");
    eventually(
        "the other Consul's instance to serve",
        PATIENCE,
        async || {
            let mut client = Http1::connect(http).await;
            let answer = client.get("/api/v1/counter/a/like").await;
            if answer.status == 200 {
                Ok(())
            } else {
                Err(answer.text())
            }
        },
    )
    .await;
    assert_eq!(gateway.config().await["kv"]["key"], KEY);
    consul.put_key(KEY, &sends_to("still-here")).await;
    gateway.expect_host("still-here").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_key_is_edited_and_each_edit_is_live_at_once() {
    let consul = Consul::dev().await;
    let counter = testkit::Program::new("highpress-counter")
        .args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--store",
            "memory",
        ])
        .start()
        .await;
    let mesh = |n: usize| {
        format!(
            "clusters:\n  - {{ name: counter, protocol: grpc, endpoints: {{ static: [\"{}\"] }} }}\n\
             routes:\n  - name: counters\n    match: {{ path_prefix: /api/v1/counter/ }}\n    \
             transcode: {{ services: [counter.CounterService], profile: phase1 }}\n    to: counter\n    \
             response_headers: {{ set: {{ x-edit: \"e{n}\" }} }}\n",
            counter.address("grpc")
        )
    };
    consul.put_key(KEY, &mesh(0)).await;
    let gateway = Gateway::start(&file(&consul, "")).await;
    let http = gateway.program.address("http");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let stop = stop.clone();
        load.spawn(async move {
            let (mut client, mut done) = (Http1::connect(http).await, 0_usize);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let answer = client.get("/api/v1/counter/a/like").await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                done += 1;
            }
            done
        });
    }
    let mut latencies = Vec::new();
    for n in 1..=40 {
        if n % 4 == 0 {
            consul.put_key(KEY, "clusters: 7\n").await;
        }
        let put = Instant::now();
        consul.put_key(KEY, &mesh(n)).await;
        let expected = format!("e{n}");
        eventually("the edit to be live", PATIENCE, async || {
            let mut client = Http1::connect(http).await;
            let answer = client.get("/api/v1/counter/a/like").await;
            let now = answer.header("x-edit").unwrap_or_default().to_owned();
            if now == expected { Ok(()) } else { Err(now) }
        })
        .await;
        latencies.push(put.elapsed());
        // A watch that is asked more often than ten times a second for long is slowed down.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut done = 0;
    while let Some(ended) = load.join_next().await {
        done += ended.expect("no request fails");
    }
    latencies.sort();
    let (median, most) = (latencies[20], latencies[39]);
    println!(
        "{done} requests, none failed; from the write to the answer: median {median:?}, longest {most:?}"
    );
    assert!(done > 500, "only {done} requests");
    assert!(median < Duration::from_millis(250), "{latencies:?}");
}
