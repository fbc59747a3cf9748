//! The runbook of `docs/migration.md`, step by step as it stands there: its configurations, its commands, and what
//! it says of them, with a monolith and the real counter service.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::http_backend::{HttpBackend, Received, Step, answer};
use testkit::{Http1, Metrics, Program, Running, eventually, mesh};

const RUNBOOK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/migration.md"));
const PATIENCE: Duration = Duration::from_secs(20);
const PATH: &str = "/api/v1/counter/article_1/like";

/// What stands in a section of the runbook, between fences of this language.
fn blocks(section: &str, language: &str) -> Vec<&'static str> {
    let start = RUNBOOK.find(&format!("## {section}")).expect(section);
    let text = &RUNBOOK[start + 3..];
    let text = &text[..text.find("\n## ").unwrap_or(text.len())];
    let fenced = text.split("```").skip(1).step_by(2);
    fenced
        .filter_map(|block| block.strip_prefix(language))
        .collect()
}

/// The whole mesh.yaml of a step; before the first one there is only the last route.
fn mesh_yaml(step: Option<&str>) -> String {
    let before = blocks("Before", "yaml");
    let [top, last] = before[..] else {
        panic!("the top and the last route: {before:?}")
    };
    let route = step.map_or("", |step| {
        let yaml = blocks(step, "yaml");
        assert_eq!(yaml.len(), 1, "one route for {step}");
        yaml[0]
    });
    format!("{top}routes:{route}{last}")
}

/// The services, the gateway in front of them, and a shell in its directory.
struct Site {
    monolith: HttpBackend,
    counter: Running,
    gateway: Running,
    dir: TempDir,
}

/// A monolith that knows no counter: it answers reads with 0, and counts nothing.
fn old(request: &Received) -> Vec<Step> {
    let body = match request.target.strip_prefix("/api/v1/counter/") {
        Some(rest) if request.method == "GET" && rest.split('/').count() == 2 => {
            let (resource, kind) = rest.split_once('/').unwrap_or_default();
            let data = json!({ "resource_id": resource, "counter_type": kind, "current_value": 0, "updated_at": "long ago" });
            json!({ "status": "success", "data": data })
        }
        _ => json!({ "status": "success" }),
    };
    let headers = [
        ("content-type", "application/json"),
        ("x-served-by", "monolith"),
    ];
    answer(200, &headers, &body.to_string())
}

impl Site {
    async fn at(step: Option<&str>) -> Self {
        let monolith = HttpBackend::start(old).await;
        let counter = mesh::counter("memory").await;
        Self::with(monolith, counter, step).await
    }

    async fn with(monolith: HttpBackend, counter: Running, step: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mesh.yaml"), mesh_yaml(step)).unwrap();
        let gateway = Program::new("highpress-proxy").args(["run", "--config", "mesh.yaml"]);
        let new = counter.address("grpc");
        let gateway = with_addresses(gateway, &monolith, new).dir(dir.path());
        let gateway = gateway.start().await;
        Self {
            monolith,
            counter,
            gateway,
            dir,
        }
    }

    /// Puts another step in place, and waits until it is in force.
    async fn go_to(&self, step: &str) {
        let version = self.page("/config").await["version"].clone();
        let new: PathBuf = self.dir.path().join("mesh.yaml.new");
        std::fs::write(&new, mesh_yaml(Some(step))).unwrap();
        std::fs::rename(new, self.dir.path().join("mesh.yaml")).unwrap();
        eventually(&format!("{step} to be in force"), PATIENCE, || async {
            let now = self.page("/config").await;
            if now["version"] == version {
                Err(now)
            } else {
                Ok(())
            }
        })
        .await;
    }

    /// Runs a command of the runbook, and gives what it wrote.
    async fn run(&self, command: &str) -> String {
        let admin = format!("http://{}", self.gateway.address("admin"));
        let words = words(&command.replace("$ADMIN_URL", &admin));
        assert_eq!(words[0], "highpress-proxy", "{command}");
        let program = Program::new("highpress-proxy")
            .args(&words[1..])
            .dir(self.dir.path());
        let program = with_addresses(program, &self.monolith, self.counter.address("grpc"));
        let ended = program.env("HIGHPRESS_ADMIN", &admin).run().await;
        assert_eq!(ended.status.code(), Some(0), "{command}: {}", ended.output);
        ended.output
    }

    async fn page(&self, path: &str) -> Value {
        let mut client = Http1::connect(self.gateway.address("admin")).await;
        let json = [("accept", "application/json")];
        client.request("GET", path, &json, None).await.json()
    }

    /// Who answers a read with these headers.
    async fn read(&self, headers: &[(&str, &str)]) -> &'static str {
        let mut client = Http1::connect(self.gateway.address("http")).await;
        let answer = client.request("GET", PATH, headers, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["status"], "success");
        match answer.header("x-served-by") {
            Some(_) => "monolith",
            None => "counter",
        }
    }

    /// The rollback of the runbook, and its end. `then`: who answers after it.
    async fn can_go_back(&self, headers: &[(&str, &str)], then: &str) {
        let commands = blocks("The way back", "sh");
        let [away, back] = commands[..] else {
            panic!("there and back: {commands:?}")
        };
        self.run(away.trim()).await;
        for _ in 0..20 {
            assert_eq!(self.read(headers).await, "monolith");
        }
        self.run(back.trim()).await;
        assert_eq!(self.read(headers).await, then);
    }

    async fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let metrics = Metrics::scrape(self.gateway.address("admin")).await;
        metrics.value(name, labels).unwrap_or(0.0)
    }
}

fn with_addresses(program: Program, monolith: &HttpBackend, counter: SocketAddr) -> Program {
    let program = program.env("MONOLITH", monolith.address().to_string());
    let program = program.env("COUNTER", counter.to_string());
    program
        .env("LISTEN", "127.0.0.1:0")
        .env("ADMIN", "127.0.0.1:0")
}

/// As a shell takes a line apart: at spaces, but not between quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words
}

#[tokio::test]
async fn before_everything_goes_to_the_monolith() {
    let site = Site::at(None).await;
    let checks = blocks("Before", "sh");
    let mut commands = checks.iter().flat_map(|block| block.trim().lines());
    assert_eq!(site.run(commands.next().unwrap()).await.trim(), "ok");
    assert!(
        site.run(commands.next().unwrap())
            .await
            .contains("everything-else")
    );
    assert_eq!(site.read(&[]).await, "monolith");
    for step in ["Step 1", "Step 2", "Step 3", "Step 4"] {
        std::fs::write(site.dir.path().join("mesh.yaml"), mesh_yaml(Some(step))).unwrap();
        assert_eq!(
            site.run("highpress-proxy check mesh.yaml").await.trim(),
            "ok",
            "{step}"
        );
    }
}

#[tokio::test]
async fn step_1_the_new_service_is_compared_and_nobody_notices() {
    let site = Site::at(None).await;
    site.go_to("Step 1").await;
    let compared = async |result: &'static str, expected: f64| {
        let labels = [
            ("route", "counters"),
            ("cluster", "counter"),
            ("result", result),
        ];
        eventually("answers to be compared", PATIENCE, || async {
            let seen = site.value("highpress_mirror_compared_total", &labels).await;
            if seen == expected {
                Ok(())
            } else {
                Err(format!("{seen} were {result}"))
            }
        })
        .await;
    };
    for _ in 0..10 {
        assert_eq!(site.read(&[]).await, "monolith");
    }
    compared("same", 10.0).await;
    let mut writer = Http1::connect(site.gateway.address("http")).await;
    let body = json!({ "resource_id": "article_1", "counter_type": "like" });
    let written = writer.post_json("/api/v1/counter/increment", &body).await;
    assert_eq!(
        written.header("x-served-by"),
        Some("monolith"),
        "writes are not copied"
    );
    assert_eq!(site.read(&[]).await, "monolith");
    compared("same", 11.0).await;
    compared("different", 0.0).await;
    // The monolith knows nothing of a path with an empty id; the new service refuses it.
    writer.get("/api/v1/counter/%00/like").await;
    compared("different", 1.0).await;
    let report = site.page("/mirrors").await.to_string();
    assert!(
        report.contains("counters") && report.contains("%00"),
        "{report}"
    );
}

#[tokio::test]
async fn step_2_whoever_asks_for_it_gets_the_new_service() {
    let site = Site::at(None).await;
    site.go_to("Step 2").await;
    let testers = [("x-canary", "yes")];
    assert_eq!(
        (site.read(&[]).await, site.read(&testers).await),
        ("monolith", "counter")
    );
    let explain = blocks("Step 2", "sh")[0].trim();
    let told = site.run(explain).await;
    assert!(
        told.contains("goes to    counter: the request is selected for the canary"),
        "{told}"
    );
    site.can_go_back(&testers, "counter").await;
}

#[tokio::test]
async fn step_3_a_part_of_the_users_gets_it_and_each_stays_where_they_are() {
    let site = Site::at(Some("Step 2")).await;
    site.go_to("Step 3").await;
    let mut sides = Vec::new();
    for round in 0..2 {
        for user in 0..400 {
            let side = site.read(&[("x-user", &format!("u{user}"))]).await;
            match round {
                0 => sides.push(side),
                _ => assert_eq!(side, sides[user], "user {user}"),
            }
        }
    }
    let new = sides.iter().filter(|side| **side == "counter").count();
    // 20, and five standard deviations.
    assert!((1..=42).contains(&new), "{new} of 400");
    let labels = [("route", "counters"), ("cluster", "counter")];
    assert_eq!(site.value("highpress_canary_state", &labels).await, 1.0);
    let tester = format!(
        "u{}",
        sides.iter().position(|side| *side == "counter").unwrap()
    );
    site.can_go_back(&[("x-user", &tester)], "counter").await;
}

#[tokio::test]
async fn step_3_a_canary_that_is_worse_is_taken_back_and_has_another_chance() {
    let site = Site::at(Some("Step 3")).await;
    site.counter.kill().await;
    let labels = [("route", "counters"), ("cluster", "counter")];
    let mut client = Http1::connect(site.gateway.address("http")).await;
    let mut failed = 0;
    // 200 of them are the canary's after some 4,000.
    for user in 0..8000 {
        let user = [("x-user", &*format!("v{user}"))];
        let answer = client.request("GET", PATH, &user, None).await;
        failed += usize::from(answer.status >= 500);
    }
    assert_eq!(site.value("highpress_canary_state", &labels).await, 0.0);
    assert!((200..220).contains(&failed), "{failed} failed");
    assert!(
        site.gateway
            .logs()
            .contains("a canary is worse than its siblings")
    );
    for user in 0..100 {
        assert_eq!(
            site.read(&[("x-user", &format!("v{user}"))]).await,
            "monolith"
        );
    }
    site.run(blocks("The way back", "sh")[1].trim()).await;
    assert_eq!(site.value("highpress_canary_state", &labels).await, 1.0);
}

#[tokio::test]
async fn step_4_the_monolith_stands_behind_the_new_service() {
    let site = Site::at(Some("Step 3")).await;
    site.go_to("Step 4").await;
    assert_eq!(site.read(&[]).await, "counter");
    site.can_go_back(&[], "counter").await;
    site.counter.kill().await;
    eventually(
        "the gateway to know that the counter is gone",
        PATIENCE,
        || async {
            let mut client = Http1::connect(site.gateway.address("http")).await;
            let answer = client.get(PATH).await;
            match answer.header("x-served-by") {
                Some("monolith") => Ok(()),
                // It was under way when the service died: it may have been executed.
                _ => Err(answer.status),
            }
        },
    )
    .await;
    for _ in 0..50 {
        assert_eq!(site.read(&[]).await, "monolith");
    }
    let labels = [("route", "counters"), ("cluster", "monolith")];
    assert!(site.value("highpress_fallbacks_total", &labels).await >= 50.0);
}
