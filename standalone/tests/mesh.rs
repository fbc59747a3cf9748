//! `highpress` as a black box: the contract, what survives `kill -9`, and what it says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::contract::{batch, get, health, hot, increment, paths};
use testkit::{Http1, Program, eventually};
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(30);

/// A program with a free port for each of these flags, whatever else runs on this machine.
fn on_free_ports(program: Program, flags: &[&str]) -> Program {
    flags.iter().fold(program, |program, flag| {
        program.args([*flag, "127.0.0.1:0"])
    })
}

fn up(data: &Path) -> Program {
    let flags = [
        "--listen",
        "--admin",
        "--counter-listen",
        "--counter-admin",
        "--analytics-listen",
        "--analytics-admin",
    ];
    on_free_ports(Program::new("highpress").arg("up"), &flags)
        .arg("--data")
        .arg(data)
}

/// One test for each family of checks, each with a mesh of its own.
macro_rules! keeps_the_contract {
    ($($test:ident: $($check:path),+;)+) => {$(
        #[tokio::test]
        async fn $test() {
            let data = tempfile::tempdir().unwrap();
            let mesh = up(data.path()).start().await;
            $($check(mesh.address("http")).await;)+
        }
    )+};
}

keeps_the_contract! {
    contract_of_increments: increment::counts, increment::spellings, increment::ids, increment::types, increment::overflow, increment::idempotency;
    contract_of_documents: increment::documents;
    contract_of_reads: get::reads, get::refusals;
    contract_of_batches: batch::reads, batch::limits, batch::refusals;
    contract_of_rankings: hot::ranks, hot::default_limit, hot::refusals;
    contract_of_paths: paths::unknown, paths::methods, paths::too_large;
    contract_of_health: health::healthy, health::views;
}

/// Increments counters `r0` to `r4` until the mesh is gone; what was acknowledged and what was sent, by counter.
async fn load(http: SocketAddr) -> BTreeMap<String, (i64, i64)> {
    let mut clients = JoinSet::new();
    for client in 0..5 {
        clients.spawn(async move {
            let id = format!("r{client}");
            let (mut acknowledged, mut sent) = (0, 0);
            let body = json!({"resource_id": id, "counter_type": "like"}).to_string();
            let head = format!(
                "POST /api/v1/counter/increment HTTP/1.1\r\nhost: x\r\ncontent-length: {}",
                body.len()
            );
            let request = format!("{head}\r\n\r\n{body}");
            let mut http = Http1::connect(http).await;
            loop {
                sent += 1;
                http.send(request.as_bytes()).await;
                match http.try_response(false).await {
                    Some(answer) if answer.status == 200 => acknowledged += 1,
                    Some(answer) => panic!("{}", answer.text()),
                    None => return (id, (acknowledged, sent)),
                }
            }
        });
    }
    clients.join_all().await.into_iter().collect()
}

async fn count(http: SocketAddr, id: &str) -> i64 {
    let answer = Http1::connect(http)
        .await
        .get(&format!("/api/v1/counter/{id}/like"))
        .await;
    answer.json()["data"]["current_value"].as_i64().unwrap()
}

async fn increment(http: SocketAddr, id: &str, delta: i64) {
    let body = json!({"resource_id": id, "counter_type": "like", "delta": delta});
    let answer = Http1::connect(http)
        .await
        .post_json("/api/v1/counter/increment", &body)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Waits until the ranking of a period has exactly these values.
async fn expect_ranking(http: SocketAddr, period: &str, counts: &BTreeMap<String, i64>) {
    let mut ranked: Vec<(&String, &i64)> = counts.iter().collect();
    ranked.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
    let row = |(rank, (id, value)): (usize, (&String, &i64))| json!({"rank": rank, "resource_id": id, "counter_type": "like", "value": value});
    let expected = Value::from((1..).zip(ranked).map(row).collect::<Vec<_>>());
    let expected = &expected;
    eventually(
        &format!("the ranking of {period}"),
        PATIENCE,
        || async move {
            let path = format!("/api/v1/counter/hot/like?limit=1000&period={period}");
            let answer = Http1::connect(http).await.get(&path).await.json();
            if answer["data"]["counters"] == *expected {
                Ok(())
            } else {
                Err(format!("{answer}, not {expected}"))
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_and_rankings_survive_kill_9_under_load() {
    let data = tempfile::tempdir().unwrap();
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    let mut mesh = up(data.path()).start().await;
    for millis in [300, 1300, 2500] {
        let loading = tokio::spawn(load(mesh.address("http")));
        tokio::time::sleep(Duration::from_millis(millis)).await;
        mesh.kill().await;
        mesh = up(data.path()).start().await;
        for (id, (acknowledged, sent)) in loading.await.unwrap() {
            assert!(acknowledged > 0, "{id} was not counted in {millis} ms");
            let before = counts.get(&id).copied().unwrap_or_default();
            let after = count(mesh.address("http"), &id).await;
            let possible = before + acknowledged..=before + sent;
            assert!(
                possible.contains(&after),
                "{id}: {after} is not in {possible:?}"
            );
            counts.insert(id, after);
        }
        for period in ["all", "hour", "month"] {
            expect_ranking(mesh.address("http"), period, &counts).await;
        }
    }
    let mut analytics = Http1::connect(mesh.address("analytics-admin")).await;
    let status = analytics.get("/status").await.json();
    assert_eq!(status["lag"], json!({"messages": 0, "seconds": 0.0}));
}

#[tokio::test]
async fn goes_on_where_it_was_after_a_drain() {
    let data = tempfile::tempdir().unwrap();
    let counts = BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), -1)]);
    let mesh = up(data.path()).start().await;
    for (id, delta) in &counts {
        increment(mesh.address("http"), id, *delta).await;
    }
    assert_eq!(mesh.stop_within(PATIENCE).await.code(), Some(0));

    let mesh = up(data.path()).start().await;
    for (id, value) in &counts {
        assert_eq!(count(mesh.address("http"), id).await, *value);
    }
    expect_ranking(mesh.address("http"), "day", &counts).await;
    mesh.interrupt();
    assert_eq!(mesh.exit_within(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn rankings_start_again_with_another_counter_directory() {
    let data = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let mesh = up(data.path()).start().await;
        let id = format!("round{round}");
        increment(mesh.address("http"), &id, 1).await;
        expect_ranking(mesh.address("http"), "all", &BTreeMap::from([(id, 1)])).await;
        assert_eq!(mesh.stop_within(PATIENCE).await.code(), Some(0));
        std::fs::remove_dir_all(data.path().join("counter")).unwrap();
    }
}

#[tokio::test]
async fn what_it_tells_to_type_works() {
    let data = tempfile::tempdir().unwrap();
    let mesh = up(data.path()).start().await;
    mesh.line_with("Ctrl-C stops").await;
    let told = mesh.logs();
    let lines: Vec<&str> = told
        .lines()
        .filter_map(|line| Some(&line[line.find("curl ")?..]))
        .collect();
    assert_eq!(lines.len(), 3, "{told}");
    for line in lines {
        let shell = format!("{line} --silent --show-error --fail");
        let run = move || Command::new("sh").args(["-c", &shell]).output().unwrap();
        let ended = tokio::task::spawn_blocking(run).await.unwrap();
        let answer = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert!(
            ended.status.success() && answer.contains(r#""status":"success""#),
            "{line}: {ended:?}"
        );
    }
    let page = told
        .lines()
        .find_map(|line| line.trim().strip_prefix("Look:"))
        .expect("a page to look at");
    assert!(
        page.contains(&format!("http://{}/ ", mesh.address("admin"))),
        "{page}"
    );
    assert_eq!(
        Http1::connect(mesh.address("admin"))
            .await
            .get("/")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn two_meshes_run_side_by_side_without_a_flag_for_inner_ports() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mesh = |data: &Path| {
        on_free_ports(Program::new("highpress"), &["--listen"])
            .arg("--data")
            .arg(data)
            .start()
    };
    let (one, two) = (mesh(one.path()).await, mesh(two.path()).await);
    for name in [
        "http",
        "admin",
        "counter",
        "counter-admin",
        "analytics",
        "analytics-admin",
    ] {
        assert_ne!(one.address(name), two.address(name), "{name}");
    }
    increment(two.address("http"), "a", 1).await;
    assert_eq!(count(one.address("http"), "a").await, 0);
    assert_eq!(count(two.address("http"), "a").await, 1);
}

#[tokio::test]
async fn every_part_has_an_admin_port() {
    let data = tempfile::tempdir().unwrap();
    let mesh = up(data.path()).start().await;
    count(mesh.address("http"), "a").await;
    for (name, metric) in [
        ("admin", "highgopress_http_requests_total{"),
        ("counter-admin", "highgopress_grpc_requests_total{"),
        ("analytics-admin", "highpress_consumer_lag_messages "),
    ] {
        let mut admin = Http1::connect(mesh.address(name)).await;
        assert_eq!(admin.get("/readyz").await.status, 200, "{name}");
        let text = admin.get("/metrics").await.text();
        assert!(
            text.contains(&format!("\n{metric}")),
            "{metric} is missing in:\n{text}"
        );
    }
}

#[tokio::test]
async fn a_file_replaces_the_built_in_configuration() {
    let data = tempfile::tempdir().unwrap();
    let printed = Program::new("highpress").arg("config").run().await;
    assert_eq!(printed.status.code(), Some(0));
    // A file names the counter's port, so a free one is looked for beforehand.
    let counter = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let config = data.path().join("mesh.yaml");
    let (kept, dropped) = printed
        .output
        .split_once("  - name: analytics\n    transcode")
        .unwrap();
    assert!(dropped.contains("analytics.AnalyticsService"), "{dropped}");
    std::fs::write(&config, kept.replace("127.0.0.1:50051", &counter)).unwrap();
    let flags = [
        "--listen",
        "--admin",
        "--counter-admin",
        "--analytics-listen",
        "--analytics-admin",
    ];
    let mesh = on_free_ports(Program::new("highpress"), &flags)
        .args(["--counter-listen", &counter, "--config"])
        .arg(&config)
        .arg("--data")
        .arg(data.path())
        .start()
        .await;
    assert_eq!(count(mesh.address("http"), "a").await, 0);
    let top = Http1::connect(mesh.address("http"))
        .await
        .get("/api/v1/analytics/top/like")
        .await;
    assert_eq!(top.status, 404, "{}", top.text());
}

#[tokio::test]
async fn a_file_says_all_that_flags_do() {
    let directory = tempfile::tempdir().unwrap();
    let printed = Program::new("highpress").arg("config").run().await;
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (counter, analytics) = (free(), free());
    let at = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let (counter_at, analytics_at) = (at(&counter), at(&analytics));
    drop((counter, analytics));
    let text = printed.output.replace("127.0.0.1:8080", "127.0.0.1:0");
    let text = text.replace("127.0.0.1:9901", "127.0.0.1:0");
    let text = text.replace("127.0.0.1:50051", &counter_at);
    let text = text.replace("127.0.0.1:50052", &analytics_at)
        + &format!(
            "data: kept\ndrain_timeout: 5s\nservices:\n  counter: {{ listen: \"{counter_at}\", admin: \"127.0.0.1:0\" }}\n  \
             analytics: {{ listen: \"{analytics_at}\", admin: \"127.0.0.1:0\" }}\n"
        );
    let config = directory.path().join("mesh.yaml");
    std::fs::write(&config, text).unwrap();
    let mesh = Program::new("highpress").arg("--config").arg(&config);
    let mesh = mesh.start().await;
    assert_eq!(mesh.address("counter").to_string(), counter_at);
    assert_eq!(mesh.address("analytics").to_string(), analytics_at);
    assert_eq!(count(mesh.address("http"), "a").await, 0);
    let kept = directory.path().join("kept");
    assert!(kept.join("counter").is_dir() && kept.join("analytics").is_dir());
    assert_eq!(mesh.stop_within(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn mistakes_are_status_2_and_all_told() {
    let data = tempfile::tempdir().unwrap();
    let config = data.path().join("mesh.yaml");
    std::fs::write(&config, "listeners: []\nclusterz: []\n").unwrap();
    let ended = up(data.path()).arg("--config").arg(&config).run().await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    for line in [1, 2] {
        let at = format!("{}:{line}: ", config.display());
        assert!(
            ended.output.contains(&at),
            "{at} is missing in:\n{}",
            ended.output
        );
    }
    let flags = Program::new("highpress")
        .args(["--listen", "8080"])
        .env("HIGHPRESS_THREADS", "none");
    let ended = flags.run().await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    for told in ["--listen: `8080`: ", "HIGHPRESS_THREADS: `none`: "] {
        assert!(
            ended.output.contains(told),
            "{told} is missing in:\n{}",
            ended.output
        );
    }
}

#[tokio::test]
async fn a_port_or_directory_in_use_is_status_1_and_named() {
    let data = tempfile::tempdir().unwrap();
    let mesh = up(data.path()).start().await;
    let ended = up(data.path()).run().await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
    assert!(ended.output.contains("in use"), "{}", ended.output);

    let taken = mesh.address("http").to_string();
    let other = tempfile::tempdir().unwrap();
    let ended = Program::new("highpress")
        .args(["--listen", &taken, "--data"])
        .arg(other.path())
        .run()
        .await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
    assert!(
        ended.output.contains(&taken) && ended.output.contains("--listen"),
        "{}",
        ended.output
    );
}
