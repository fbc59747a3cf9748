//! A file that changes under the reloader. Time is tokio's and paused; the files are real.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_config::{Live, Problems, ReloadHandle, Reloader, Reloads, Snapshot, Sources, Status};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// A mesh whose one route goes to a cluster at `port`.
fn mesh(port: u16) -> String {
    format!(
        "clusters: [{{ name: a, protocol: http1, endpoints: {{ static: [\"127.0.0.1:{port}\"] }} }}]\n\
         routes: [{{ name: r, match: {{ path_prefix: / }}, to: a }}]\n"
    )
}

fn file(path: &Path) -> Sources {
    Sources {
        file: Some(path.to_owned()),
        ..Sources::default()
    }
}

struct Fixture {
    dir: TempDir,
    path: PathBuf,
    status: Live<Status>,
    handle: ReloadHandle,
    compiled: Arc<Mutex<Vec<String>>>,
}

impl Fixture {
    fn start(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("mesh.yaml");
        fs::write(&path, text).expect("written");
        Self::over(dir, path)
    }

    /// Starts a reloader that refuses snapshots whose cluster is at port 666.
    fn over(dir: TempDir, path: PathBuf) -> Self {
        let compiled = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&compiled);
        let compile = move |snapshot: &Arc<Snapshot>| {
            if format!("{:?}", snapshot.clusters).contains("666") {
                let path = "clusters[0].endpoints.static[0]";
                return Err(Problems::from(
                    snapshot.positions.problem(path, "nobody lives there"),
                ));
            }
            log.lock().push(snapshot.version.clone());
            Ok(())
        };
        let (reloader, status) = Reloader::start(file(&path), None, compile)
            .unwrap_or_else(|problems| panic!("{problems}"));
        let handle = reloader.handle();
        tokio::spawn(reloader.run());
        Self {
            dir,
            path,
            status,
            handle,
            compiled,
        }
    }

    fn write(&self, text: &str) {
        fs::write(&self.path, text).expect("written");
    }

    /// Waits for a reload to end.
    async fn reloaded(&mut self) -> Arc<Status> {
        timeout(Duration::from_secs(60), self.status.changed())
            .await
            .expect("a reload should have been noticed")
            .expect("the reloader should be running")
    }
}

fn reloads(applied: u64, rejected: u64, unchanged: u64) -> Reloads {
    Reloads {
        applied,
        rejected,
        unchanged,
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_comes_into_force() {
    let mut mesh_file = Fixture::start(&mesh(1));
    let first = mesh_file.status.load();
    mesh_file.write(&mesh(2));
    let status = mesh_file.reloaded().await;

    assert_ne!(status.snapshot.version, first.snapshot.version);
    assert_eq!(status.reloads, reloads(1, 0, 0));
    assert_eq!(status.history.len(), 2);
    assert_eq!(status.history[0].version, status.snapshot.version);
    assert_eq!(status.history[0].summary, "clusters: ~a");
    assert_eq!(status.history[1].version, first.snapshot.version);
    let compiled = mesh_file.compiled.lock().clone();
    assert_eq!(
        compiled,
        [
            first.snapshot.version.clone(),
            status.snapshot.version.clone()
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_broken_file_leaves_the_last_good_one_in_force() {
    let mut mesh_file = Fixture::start(&mesh(1));
    let good = mesh_file.status.load();
    mesh_file.write("clusters: []\nroutes: []\n");
    let status = mesh_file.reloaded().await;

    let source = mesh_file.path.display();
    let json = status.json();
    assert_eq!(json["version"], good.snapshot.version.as_str());
    assert_eq!(json["source"], source.to_string());
    assert_eq!(json["rejected"]["source"], source.to_string());
    assert!(
        json["rejected"]["at"]
            .as_str()
            .is_some_and(|at| at.ends_with('Z'))
    );
    let why = "this list is empty: give at least one item or remove the key";
    assert_eq!(
        json["rejected"]["problems"],
        serde_json::json!([
            format!("{source}:1: clusters: {why}"),
            format!("{source}:2: routes: {why}")
        ])
    );
    assert_eq!(json["history"].as_array().map(Vec::len), Some(1));
    assert_eq!(status.reloads, reloads(0, 1, 0));

    mesh_file.write(&mesh(2));
    let status = mesh_file.reloaded().await;
    assert!(
        status.json()["rejected"].is_null(),
        "a good version clears the rejected one"
    );
    assert_eq!(status.reloads, reloads(1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_compile_is_refused_with_its_line() {
    let mut mesh_file = Fixture::start(&mesh(1));
    mesh_file.write(&format!("# a comment\n{}", mesh(666)));
    let status = mesh_file.reloaded().await;
    let problems = status
        .rejected
        .as_ref()
        .expect("a rejected version")
        .problems
        .to_string();
    let expected = "2: clusters[0].endpoints.static[0]: nobody lives there";
    assert_eq!(problems, format!("{}:{expected}", mesh_file.path.display()));
    assert_eq!(status.history.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn taking_a_mistake_back_is_no_new_version() {
    let mut mesh_file = Fixture::start(&mesh(1));
    mesh_file.write("oops");
    assert!(mesh_file.reloaded().await.rejected.is_some());
    mesh_file.write(&mesh(1));
    let status = mesh_file.reloaded().await;
    assert_eq!((status.rejected.is_none(), status.history.len()), (true, 1));
    assert_eq!(status.reloads, reloads(0, 1, 1));
    assert_eq!(mesh_file.compiled.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_renamed_over_or_away_is_noticed() {
    let mut mesh_file = Fixture::start(&mesh(1));
    let aside = mesh_file.dir.path().join(".mesh.yaml.swp");
    fs::write(&aside, mesh(2)).expect("written");
    fs::rename(&aside, &mesh_file.path).expect("renamed");
    assert_eq!(mesh_file.reloaded().await.reloads, reloads(1, 0, 0));

    fs::rename(&mesh_file.path, &aside).expect("renamed");
    let status = mesh_file.reloaded().await;
    let problems = status
        .rejected
        .as_ref()
        .expect("a rejected version")
        .problems
        .to_string();
    assert!(
        problems.ends_with("cannot read it: No such file or directory (os error 2)"),
        "{problems}"
    );

    fs::rename(&aside, &mesh_file.path).expect("renamed");
    assert_eq!(mesh_file.reloaded().await.reloads, reloads(1, 1, 1));
}

/// As Kubernetes mounts a ConfigMap: `mesh.yaml -> ..data/mesh.yaml`, `..data -> a directory for each version`.
#[tokio::test(start_paused = true)]
async fn a_symbolic_link_that_is_swung_is_noticed() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().to_owned();
    let version = |name: &str, port| {
        fs::create_dir(root.join(name)).expect("created");
        fs::write(root.join(name).join("mesh.yaml"), mesh(port)).expect("written");
        symlink(name, root.join("..data_tmp")).expect("linked");
        fs::rename(root.join("..data_tmp"), root.join("..data")).expect("renamed");
    };
    version("..one", 1);
    symlink("..data/mesh.yaml", root.join("mesh.yaml")).expect("linked");
    let path = root.join("mesh.yaml");
    let mut mesh_file = Fixture::over(dir, path);
    version("..two", 2);
    assert_eq!(mesh_file.reloaded().await.reloads, reloads(1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_descriptor_file_is_a_part_of_the_version() {
    let dir = tempfile::tempdir().expect("a directory");
    let descriptors = dir.path().join("library.binpb");
    fs::write(&descriptors, "one").expect("written");
    let path = dir.path().join("mesh.yaml");
    fs::write(
        &path,
        format!("descriptors: [file: library.binpb]\n{}", mesh(1)),
    )
    .expect("written");
    let mut mesh_file = Fixture::over(dir, path);
    let first = mesh_file.status.load();

    fs::write(&descriptors, "two").expect("written");
    let status = mesh_file.reloaded().await;
    assert_ne!(status.snapshot.version, first.snapshot.version);
    assert_eq!(status.history[0].summary, "descriptors: changed");

    fs::remove_file(&descriptors).expect("removed");
    let status = mesh_file.reloaded().await;
    let problems = status
        .rejected
        .as_ref()
        .expect("a rejected version")
        .problems
        .to_string();
    assert!(
        problems.contains(":1: descriptors[0].file: cannot read "),
        "{problems}"
    );

    fs::write(&descriptors, "three").expect("written");
    assert_eq!(mesh_file.reloaded().await.reloads, reloads(2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_is_asked_for_does_not_wait_for_the_next_look() {
    let mut mesh_file = Fixture::start(&mesh(1));
    let asked = Instant::now();
    mesh_file.handle.reload();
    assert_eq!(mesh_file.reloaded().await.reloads, reloads(0, 0, 1));
    mesh_file.write(&mesh(2));
    mesh_file.handle.reload();
    assert_eq!(mesh_file.reloaded().await.reloads, reloads(1, 0, 1));
    assert!(
        asked.elapsed() < Duration::from_millis(500),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_left_to_come_to_rest() {
    let mut mesh_file = Fixture::start(&mesh(1));
    // The first look is at 500 ms.
    sleep(Duration::from_millis(480)).await;
    let text = mesh(2);
    mesh_file.write(&text[..text.len() / 2]);
    sleep(Duration::from_millis(40)).await;
    mesh_file.write(&text);
    assert_eq!(mesh_file.reloaded().await.reloads, reloads(1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn boot_settings_ask_for_a_restart_until_they_are_taken_back() {
    let mut mesh_file = Fixture::start(&mesh(1));
    mesh_file.write(&format!(
        "threads: 3\nadmin: {{ address: 127.0.0.1:0 }}\n{}",
        mesh(2)
    ));
    let status = mesh_file.reloaded().await;
    assert_eq!(status.restart_needed, ["admin", "threads"]);
    assert_eq!(
        status.history[0].summary,
        "clusters: ~a; admin, threads: changed, at the next start"
    );
    assert_eq!(
        status.json()["restart_needed"],
        serde_json::json!(["admin", "threads"])
    );

    mesh_file.write(&mesh(3));
    assert!(mesh_file.reloaded().await.restart_needed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn other_bounds_of_overload_need_no_restart() {
    let mut mesh_file = Fixture::start(&mesh(1));
    mesh_file.write(&format!("overload: {{ memory: 1GiB }}\n{}", mesh(1)));
    let status = mesh_file.reloaded().await;
    assert_eq!(status.history[0].summary, "overload: changed");
    assert!(status.restart_needed.is_empty());
    assert!(status.snapshot.overload.memory.is_some());
}

#[tokio::test(start_paused = true)]
async fn history_is_bounded() {
    let mut mesh_file = Fixture::start(&mesh(1));
    for port in 2..42 {
        mesh_file.write(&mesh(port));
        mesh_file.handle.reload();
        mesh_file.reloaded().await;
    }
    let status = mesh_file.status.load();
    assert_eq!(
        (status.history.len(), status.reloads),
        (32, reloads(40, 0, 0))
    );
    assert_eq!(status.history[0].version, status.snapshot.version);
}

#[test]
fn a_start_without_a_good_file_is_refused() {
    let refused = |path: &Path| match Reloader::start(file(path), None, |_| Ok(())) {
        Ok(_) => panic!("it started"),
        Err(problems) => problems.to_string(),
    };
    let dir = tempfile::tempdir().expect("a directory");
    assert!(refused(dir.path()).ends_with(": it is a directory: name the file in it"));
    let path = dir.path().join("mesh.yaml");
    assert!(refused(&path).contains("cannot read it"));
    fs::write(&path, b"routes: 1\n# \xff\n").expect("written");
    assert!(refused(&path).ends_with("it is not UTF-8 text (line 2)"));
}
