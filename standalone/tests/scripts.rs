//! The scripts of `deploy/scripts`, which anybody may point at any mesh, against a real one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::Program;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/scripts")
        .join(name)
}

#[tokio::test]
async fn the_smoke_and_load_tests_pass_on_a_good_mesh() {
    let data = tempfile::tempdir().unwrap();
    let inner = [
        "admin",
        "counter-listen",
        "counter-admin",
        "analytics-listen",
        "analytics-admin",
    ];
    let mesh = Program::new("highpress")
        .args(["up", "--listen", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .args(
            inner
                .iter()
                .flat_map(|name| [format!("--{name}"), "127.0.0.1:0".to_owned()]),
        )
        .start()
        .await;
    let base = format!("http://{}", mesh.address("http"));
    for (name, closing) in [
        ("quick_test.sh", "28 passed, 0 failed"),
        ("load_test.sh", "3 passed, 0 failed"),
    ] {
        let run = Program::at(script(name)).arg(&base).spawn();
        let status = run.exit_within(Duration::from_secs(120)).await;
        assert!(
            status.success() && run.logs().ends_with(&format!("{closing}\n")),
            "{status}"
        );
    }
}

#[tokio::test]
async fn they_fail_where_there_is_none() {
    for name in ["quick_test.sh", "load_test.sh", "performance_test.sh"] {
        let run = Program::at(script(name))
            .arg("http://127.0.0.1:1")
            .run()
            .await;
        assert_eq!(run.status.code(), Some(1), "{name}: {}", run.output);
        let help = Program::at(script(name)).arg("--help").run().await;
        assert!(
            help.status.success() && help.output.starts_with("usage: "),
            "{name}: {}",
            help.output
        );
    }
}
