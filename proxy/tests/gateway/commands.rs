//! The commands of `highpress-proxy` and what they exit with.

use std::path::PathBuf;
use std::time::Duration;

use testkit::Program;
use testkit::mesh::{self, Gateway};
use testkit::program::Ended;

async fn proxy(args: &[&str]) -> Ended {
    Program::new("highpress-proxy").args(args).run().await
}

struct File(tempfile::TempDir);

impl File {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mesh.yaml"), text).unwrap();
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mesh.yaml")
    }
}

fn valid() -> File {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    File::new(&mesh::phase1(nowhere, nowhere))
}

const BROKEN: &str = "listeners: [{ address: nonsense }]
clusters:
  - { name: counter, protocol: grpc, endpoints: { static: [\"127.0.0.1:50051\"] }, retries: 3 }
routes:
  - { name: a, transcode: { services: [counter.CounterService] }, to: count }
  - { name: b, to: counter, timeout: soon }
";

#[tokio::test]
async fn check_says_ok_or_every_problem_with_its_line() {
    let good = valid();
    let ended = proxy(&["check", good.path().to_str().unwrap()]).await;
    assert_eq!(
        (ended.status.code(), ended.output.trim()),
        (Some(0), "ok"),
        "{}",
        ended.output
    );
    let bad = File::new(BROKEN);
    let ended = proxy(&[
        "check",
        good.path().to_str().unwrap(),
        bad.path().to_str().unwrap(),
    ])
    .await;
    assert_eq!(ended.status.code(), Some(2));
    for (line, path) in [
        (1, "listeners[0].address"),
        (3, "clusters[0].retries"),
        (5, "routes[0].to"),
        (6, "routes[1].timeout"),
    ] {
        let expected = format!("mesh.yaml:{line}: {path}: ");
        assert!(
            ended.output.contains(&expected),
            "{expected} is not in\n{}",
            ended.output
        );
    }
}

#[tokio::test]
async fn check_warns_of_a_policy_by_key_that_no_route_has_a_key_for() {
    for policy in ["ring_hash", "maglev"] {
        let text = std::fs::read_to_string(valid().path()).unwrap();
        let rules = format!("protocol: grpc, load_balancing: {{ policy: {policy} }}");
        let text = text.replacen("protocol: grpc", &rules, 1);
        let ended = proxy(&["check", File::new(&text).path().to_str().unwrap()]).await;
        assert!(ended.status.success(), "{}", ended.output);
        assert!(ended.output.lines().any(|line| line == "ok"));
        let warned = ended
            .output
            .lines()
            .find(|line| line.starts_with("warning: "));
        let warned = warned.unwrap_or_else(|| panic!("{}", ended.output));
        let expected =
            format!("clusters[0].load_balancing.policy: {policy} sends requests by a key");
        assert!(warned.contains(&expected), "{warned}");

        let keyed = text.replace("to: counter", "hash_on: address\n    to: counter");
        let ended = proxy(&["check", File::new(&keyed).path().to_str().unwrap()]).await;
        assert_eq!(ended.output.trim(), "ok");
    }
}

#[tokio::test]
async fn check_finds_what_only_descriptors_can_tell() {
    let file = File::new(
        &BROKEN
            .replace("nonsense", "127.0.0.1:0")
            .replace(", retries: 3", "")
            .replace("to: count ", "to: counter ")
            .replace("[counter.CounterService]", "[counter.CountService]")
            .replace("  - { name: b, to: counter, timeout: soon }\n", ""),
    );
    let ended = proxy(&["check", file.path().to_str().unwrap()]).await;
    assert_eq!(ended.status.code(), Some(2));
    assert!(
        ended
            .output
            .contains("mesh.yaml:5: routes[0].transcode.services[0]: "),
        "{}",
        ended.output
    );
    assert!(
        ended.output.contains("counter.CounterService"),
        "it names what there is: {}",
        ended.output
    );
}

#[tokio::test]
async fn check_knows_the_variables_of_paths() {
    let policies = "hash_on: { path: resource }, canary: { cluster: canary, share: 1% }, \
                    rate_limit: { requests: 1, per: 1s, key: [\"path:resource_id\", \"path:counter\"] }, ";
    let file = File::new(
        &BROKEN
            .replace("nonsense", "127.0.0.1:0")
            .replace(", retries: 3", "")
            .replace(
                "routes:\n",
                "  - { name: canary, protocol: grpc, endpoints: { static: [\"127.0.0.1:1\"] } }\nroutes:\n",
            )
            .replace("to: count ", &format!("{policies}to: counter "))
            .replace("  - { name: b, to: counter, timeout: soon }\n", ""),
    );
    let ended = proxy(&["check", file.path().to_str().unwrap()]).await;
    assert_eq!(ended.status.code(), Some(2));
    let lines: Vec<&str> = ended.output.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ended.output);
    for (line, path) in lines.iter().zip(["hash_on.path", "rate_limit.key[1]"]) {
        assert!(
            line.contains(&format!("mesh.yaml:6: routes[0].{path}: ")),
            "{line}"
        );
        assert!(
            line.contains("resource_id"),
            "it names what there is: {line}"
        );
    }
}

#[tokio::test]
async fn run_with_a_broken_file_exits_2_with_all_mistakes() {
    let file = File::new(BROKEN);
    let ended = proxy(&["run", "--config", file.path().to_str().unwrap()]).await;
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.output.lines().count() >= 4, "{}", ended.output);
    assert_eq!(proxy(&["run"]).await.status.code(), Some(2));
    assert_eq!(
        proxy(&["run", "--config", "/no/such/mesh.yaml"])
            .await
            .status
            .code(),
        Some(2)
    );
}

#[tokio::test]
async fn an_admin_address_that_is_none_exits_2_and_says_what_to_write() {
    for admin in [
        "NONSENSE",
        "",
        "http://",
        "http://127.0.0.1",
        "https://127.0.0.1:9901",
        "127.0.0.1:0",
        "127.0.0.1:99999",
        "http://127.0.0.1:9901/clusters",
    ] {
        for command in [
            &["switch"][..],
            &["switch", "counters", "monolith"],
            &["explain", "GET", "/x"],
            &["run", "--config", "mesh.yaml"],
        ] {
            let is_run = command[0] == "run";
            if is_run && admin == "127.0.0.1:0" {
                continue; // Any free port, when it is one's own.
            }
            let ended = proxy(&[command, &["--admin", admin]].concat()).await;
            assert_eq!(
                ended.status.code(),
                Some(2),
                "{command:?} --admin {admin:?}: {}",
                ended.output
            );
            assert!(ended.output.contains("--admin"), "{}", ended.output);
            let says = ended.output.contains("http://HOST:PORT");
            assert!(is_run || says, "{}", ended.output);
        }
    }
    // One that is fine, and at which nobody listens, is another matter.
    let ended = proxy(&["switch", "--admin", "http://127.0.0.1:1/"]).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
}

#[tokio::test]
async fn routes_prints_the_compiled_table() {
    let file = valid();
    let ended = proxy(&["routes", file.path().to_str().unwrap()]).await;
    assert_eq!(ended.status.code(), Some(0));
    for text in [
        "POST",
        "/api/v1/counter/increment",
        "counter.CounterService/IncrementCounter",
        "timeout 2s",
        "/api/v1/health",
    ] {
        assert!(
            ended.output.contains(text),
            "{text} is not in\n{}",
            ended.output
        );
    }
}

#[tokio::test]
async fn routes_names_the_policies_that_are_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = r#"
clusters:
  - { name: old, protocol: http1, endpoints: { static: ["127.0.0.1:3000"] }, breaker: {} }
  - { name: new, protocol: http1, endpoints: { static: ["127.0.0.1:3001"] } }
routes:
  - name: all
    match: { path_prefix: /api }
    weighted: [{ cluster: old, weight: 95 }, { cluster: new, weight: 5 }]
    hash_on: { header: x-user }
    canary: { cluster: new, max_error_ratio_over: 1% }
    rate_limit: { requests: 100, per: 1s }
    retry: {}
    mirror: { cluster: new, share: 10% }
    fault: { header: x-fault, abort: { status: 503 } }
    fallback: [old]
    rewrite: { path_prefix: /v2 }
    response_headers: { remove: [server] }
    priority: low
  - { name: away, match: { path_prefix: /moved }, redirect: { path_prefix: / } }
"#;
    std::fs::write(file.path(), config).unwrap();
    let ended = proxy(&["routes", file.path().to_str().unwrap()]).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    let policies = "timeout 15s, p2c, breaker, priority low, rate limit 100/1s, fault, split old 95 : new 5, sticky, \
        canary new, mirror 10% to new, 3 tries, fallback old, rewrite, response headers edited";
    for text in [policies, "(redirected)           -\n"] {
        assert!(
            ended.output.contains(text),
            "{text} is not in\n{}",
            ended.output
        );
    }
}

#[tokio::test]
async fn explain_shows_route_message_and_near_misses() {
    let file = valid();
    let path = file.path();
    let path = path.to_str().unwrap();
    let body = r#"{"RESOURCE_ID":"a","counter_type":"like","delta":2}"#;
    let ended = proxy(&[
        "explain",
        path,
        "post",
        "/api/v1/counter/increment",
        "-d",
        body,
        "-H",
        "Idempotency-Key: k",
    ])
    .await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    for text in [
        "gRPC /counter.CounterService/IncrementCounter",
        r#""resourceId":"a""#,
        "idempotency-key: k",
        "/api/v1/counter/batch",
        "p2c",
    ] {
        assert!(
            ended.output.contains(text),
            "{text} is not in\n{}",
            ended.output
        );
    }
    let ended = proxy(&["explain", path, "DELETE", "/api/v1/counter/increment"]).await;
    assert!(
        ended.output.contains("405") && ended.output.contains("Allow: POST"),
        "{}",
        ended.output
    );
    let ended = proxy(&["explain", path, "GET", "/api/v1/counter/hot/like?limit=0"]).await;
    assert!(
        ended.output.contains("400") && ended.output.contains("1 to 1000"),
        "{}",
        ended.output
    );
}

#[tokio::test]
async fn explain_asks_a_running_gateway_about_its_endpoints() {
    let counter = mesh::counter("memory").await;
    let address = counter.address("grpc");
    let gateway = Gateway::start(&mesh::phase1(address, address)).await;
    let admin = format!("http://{}", gateway.admin());
    let ended = proxy(&[
        "explain",
        "--admin",
        &admin,
        "GET",
        "/api/v1/counter/a%20b/like",
        "-H",
        "X-Request-Id: 7",
    ])
    .await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    for text in [
        r#""resourceId":"a b""#,
        "x-request-id: 7",
        "usable",
        "breaker admit",
    ] {
        assert!(
            ended.output.contains(text),
            "{text} is not in\n{}",
            ended.output
        );
    }
}

#[tokio::test]
async fn the_profile_that_is_printed_can_be_used_under_another_name() {
    let printed = proxy(&["profile", "phase1"]).await.output;
    let indented: String = printed
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let yaml = mesh::phase1(nowhere, nowhere).replace("profile: phase1", "profile: mine");
    let file = File::new(&format!("{yaml}\nprofiles:\n  mine:\n{indented}"));
    let ended = proxy(&["check", file.path().to_str().unwrap()]).await;
    assert_eq!(ended.output.trim(), "ok", "{}", ended.output);
    assert_eq!(proxy(&["profile", "phase9"]).await.status.code(), Some(2));
}

#[tokio::test]
async fn an_address_that_is_taken_is_status_1_and_named() {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let gateway = Gateway::start(&mesh::phase1(nowhere, nowhere)).await;
    let taken = gateway.http().to_string();
    let file = File::new(&mesh::phase1(nowhere, nowhere).replacen("127.0.0.1:0", &taken, 1));
    let running = Program::new("highpress-proxy")
        .args(["run", "--config"])
        .arg(file.path())
        .spawn();
    let status = running.exit_within(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(1), "{}", running.logs());
    assert!(running.logs().contains(&taken), "{}", running.logs());
}
