//! SIGHUP: everything that settings come from is read again; what can change while a program runs does, the rest is named.

use serde_json::{Value, json};
use testkit::wait::{PATIENCE, eventually};
use testkit::{Consul, Http1, Metrics, Program, Running};

use super::setup::Gateway;

const COUNTER: &str = "high-go-press/config/prod/counter";
const CATALOGUE: &str = "high-go-press-counter";

/// A service with a file that a test writes.
struct Service {
    program: Running,
    directory: tempfile::TempDir,
}

impl Service {
    async fn start(binary: &str, flags: &[&str], file: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("settings.yaml"), file).unwrap();
        let program = Program::new(binary)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--config", "settings.yaml"])
            .args(flags)
            .dir(directory.path());
        let program = program.start().await;
        Self { program, directory }
    }

    /// Writes the file, and asks for it to be read.
    fn says(&self, file: &str) {
        std::fs::write(self.directory.path().join("settings.yaml"), file).unwrap();
        self.program.reload();
    }

    async fn settings(&self) -> Value {
        let mut admin = Http1::connect(self.program.address("admin")).await;
        let json = [("accept", "application/json")];
        let status = admin.request("GET", "/status", &json, None).await.json();
        status["settings"].clone()
    }

    async fn expect(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(what, PATIENCE, async || {
            let settings = self.settings().await;
            if is(&settings) {
                Ok(settings)
            } else {
                Err(settings.to_string())
            }
        })
        .await
    }
}

fn restart(names: &[&str]) -> impl Fn(&Value) -> bool {
    let names = json!(names);
    move |settings: &Value| settings["restart_needed"] == names && settings["rejected"].is_null()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_reads_its_file_again_without_any_consul() {
    for (binary, flags, boot) in [
        (
            "highpress-counter",
            &["--store", "memory"][..],
            "redis_timeout: 3s\n",
        ),
        (
            "highpress-analytics",
            &["--data", "state"],
            "memory: 2MiB\n",
        ),
    ] {
        let service = Service::start(binary, flags, "drain_timeout: 7s\n").await;
        service.says("drain_timeout: 9s\nlog: debug\n");
        let line = service
            .program
            .line_with("SIGHUP: the settings were read again")
            .await;
        assert!(line.contains("applied=\"drain_timeout, log\""), "{line}");

        service.says(&format!("drain_timeout: 9s\nlog: debug\n{boot}"));
        let name = boot.split(':').next().unwrap();
        service
            .expect("the restart to be named", restart(&[name]))
            .await;
        service
            .program
            .line_with(&format!("needs a restart: {name}"))
            .await;
        service.program.line_with("DEBUG").await;

        // What is wrong changes nothing, and says where it stands.
        service.says("drain_timeout: soon\ntreads: 2\n");
        let settings = service
            .expect("the mistakes to be shown", |settings| {
                !settings["rejected"].is_null()
            })
            .await;
        let problems = settings["rejected"]["problems"].to_string();
        for mistake in [
            "settings.yaml:1: drain_timeout",
            "settings.yaml:2: treads: unknown key",
        ] {
            assert!(problems.contains(mistake), "{problems}");
        }
        assert_eq!(settings["rejected"]["source"], "settings.yaml");
        let metrics = Metrics::scrape(service.program.address("admin")).await;
        assert_eq!(metrics.value("highpress_settings_rejected", &[]), Some(1.0));
        service.says("drain_timeout: 9s\n");
        service.expect("all to be well", restart(&[])).await;
        assert_eq!(service.program.stop_within(PATIENCE).await.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_is_heard_under_a_key_that_is_refused_and_weights_change_in_consul() {
    let consul = Consul::dev().await;
    consul.put_key(COUNTER, "drain_timeout: 5s\n").await;
    let flags = ["--store", "memory", "--consul", &consul.url()];
    let service = Service::start("highpress-counter", &flags, "tags: one\n").await;
    expect_announced(&consul, CATALOGUE, &["one"], 1).await;
    service.says("tags: one,two\nweight: 5\n");
    expect_announced(&consul, CATALOGUE, &["one", "two"], 5).await;
    service
        .program
        .line_with("registered again, with other tags")
        .await;

    consul.put_key(COUNTER, "drain_timeout: soon\n").await;
    service
        .expect("the key to be refused", |settings| {
            !settings["rejected"].is_null()
        })
        .await;
    service.says("tags: three\nweight: 2\n");
    expect_announced(&consul, CATALOGUE, &["three"], 2).await;
    let settings = service.settings().await;
    let source = format!("kv:{COUNTER}");
    assert_eq!(settings["rejected"]["source"], source, "still: {settings}");

    // The key beats the file, for these too.
    consul.put_key(COUNTER, "weight: 9\n").await;
    expect_announced(&consul, CATALOGUE, &["three"], 9).await;
    service.expect("the key to be taken", restart(&[])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_announces_other_tags_without_a_restart() {
    let consul = Consul::dev().await;
    let text = |more: &str| {
        let file = super::setup::file(&consul, "");
        file.replace("token: \"\"", &format!("token: \"\"{more}"))
    };
    let gateway = Gateway::start(&text(", tags: [blue]")).await;
    let service = "high-go-press-gateway";
    expect_announced(&consul, service, &["blue"], 1).await;
    let path = gateway.directory.path().join("mesh.yaml");
    std::fs::write(
        &path,
        text(", tags: [green], weight: 7") + "drain_timeout: 1s\n",
    )
    .unwrap();
    gateway.program.reload();
    expect_announced(&consul, service, &["green"], 7).await;
    let drains = |now: &Value| now["history"].as_array().is_some_and(|all| all.len() == 2);
    let page = gateway.config_with("the second version", drains).await;
    assert_eq!(page["restart_needed"].to_string(), "[]", "{page}");
}

/// Waits until Consul knows one instance, with these tags and this weight.
async fn expect_announced(consul: &Consul, service: &str, tags: &[&str], weight: u32) {
    let expected = (json!(tags), json!(weight));
    eventually(&format!("{expected:?} in Consul"), PATIENCE, async || {
        let found = consul.get(&format!("/v1/health/service/{service}")).await;
        let one = &found[0]["Service"];
        let announced = (one["Tags"].clone(), one["Weights"]["Passing"].clone());
        if announced == expected && found[1].is_null() {
            Ok(())
        } else {
            Err(found.to_string())
        }
    })
    .await;
}
