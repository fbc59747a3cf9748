//! The mesh's own programs (and any other) as black boxes: started, watched, signalled, stopped.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;

use crate::child::Supervised;
use crate::wait::{PATIENCE, eventually, within};

/// A program to start.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
}

impl Program {
    /// One of the workspace's own programs, by the name of its binary: the one in the target directory that this test
    /// was built into. It is built there if it is missing, but never rebuilt: `make test` builds all of them first, and
    /// so does `cargo test -p CRATE` for the crate's own.
    ///
    /// # Panics
    /// When it is missing and cannot be built.
    pub fn new(binary: &str) -> Self {
        let path = target_dir().join(binary);
        if !path.is_file() {
            build(binary);
        }
        assert!(path.is_file(), "no program at {}", path.display());
        Self::at(path)
    }

    /// Any program, by path or name.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it in `dir`.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// Starts it and waits for its ready line: `NAME ready: grpc 127.0.0.1:50051, admin 127.0.0.1:8081`.
    ///
    /// # Panics
    /// When it ends instead, or says nothing in time.
    pub async fn start(self) -> Running {
        let mut running = self.spawn();
        running.wait_until_ready().await;
        running
    }

    /// Starts it without waiting for anything.
    ///
    /// # Panics
    /// When it cannot be started at all.
    pub fn spawn(self) -> Running {
        let name = self
            .path
            .file_name()
            .unwrap_or(self.path.as_os_str())
            .to_string_lossy()
            .into_owned();
        let child = Supervised::start(self.path.as_os_str(), |command| self.configure(command));
        let child =
            child.unwrap_or_else(|why| panic!("cannot start {}: {why}", self.path.display()));
        Running {
            name,
            child,
            addresses: BTreeMap::new(),
        }
    }

    /// Runs it to its end: for `check`, `--help`, bad configurations.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn run(self) -> Ended {
        let running = self.spawn();
        let status = running.exit_within(PATIENCE).await;
        Ended {
            status,
            output: running.logs(),
        }
    }

    fn configure(&self, command: &mut Command) {
        // What the person at the machine has set must not change a test.
        for (name, _) in std::env::vars_os()
            .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HIGHPRESS_"))
        {
            command.env_remove(name);
        }
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
    }
}

/// A program that ran to its end.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything that it wrote, both streams.
    pub output: String,
}

/// A started program. Killed when dropped; its logs are shown if that happens in a failing test.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Supervised,
    addresses: BTreeMap<String, SocketAddr>,
}

impl Running {
    /// The address of that name in the ready line (`http`, `grpc`, `admin`).
    ///
    /// # Panics
    /// When there is none.
    pub fn address(&self, name: &str) -> SocketAddr {
        let address = self.addresses.get(name);
        *address.unwrap_or_else(|| {
            panic!(
                "{} named no address {name:?}, only {:?}",
                self.name, self.addresses
            )
        })
    }

    /// Everything that it has written so far.
    pub fn logs(&self) -> String {
        self.child.output()
    }

    /// Its process id, for `/proc`.
    pub fn pid(&self) -> u32 {
        self.child.pid
    }

    /// Asks it to stop: SIGTERM.
    pub fn terminate(&self) {
        self.child.signal(Signal::TERM);
    }

    /// Interrupts it as Ctrl-C does: SIGINT.
    pub fn interrupt(&self) {
        self.child.signal(Signal::INT);
    }

    /// Asks it to reload: SIGHUP.
    pub fn reload(&self) {
        self.child.signal(Signal::HUP);
    }

    /// Freezes it where it stands: SIGSTOP. It keeps its sockets and answers nothing.
    ///
    /// # Panics
    /// When it does not stop.
    pub async fn freeze(&self) {
        self.child.signal(Signal::STOP);
        // A signal is only sent so far: another thread of it may still be running.
        eventually(&format!("{} to stop", self.name), PATIENCE, async || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
            let stat = stat.map_err(|why| why.to_string())?;
            let state = stat.rsplit(") ").next().unwrap_or_default();
            if state.starts_with('T') {
                Ok(())
            } else {
                Err(stat)
            }
        })
        .await;
    }

    /// Lets it go on: SIGCONT.
    pub fn thaw(&self) {
        self.child.signal(Signal::CONT);
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(&self) {
        self.child.signal(Signal::KILL);
        self.exit_within(PATIENCE).await;
    }

    /// SIGTERM, then its exit status.
    ///
    /// # Panics
    /// When it has not ended within `patience`.
    pub async fn stop_within(&self, patience: Duration) -> ExitStatus {
        self.terminate();
        self.exit_within(patience).await
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it has not ended within `patience`.
    pub async fn exit_within(&self, patience: Duration) -> ExitStatus {
        within(
            &format!("{} to end", self.name),
            patience,
            self.child.exit(),
        )
        .await
    }

    /// Has it ended?
    pub fn has_ended(&self) -> bool {
        self.child.try_exit().is_some()
    }

    /// Waits until it has written a line that contains `text`, and returns that line.
    ///
    /// # Panics
    /// When it ends first, or does not write it in time.
    pub async fn line_with(&self, text: &str) -> String {
        let find = |output: &str| {
            complete_lines(output)
                .find(|line| line.contains(text))
                .map(str::to_owned)
        };
        let what = format!("{} to write {text:?}", self.name);
        match within(&what, PATIENCE, self.child.output_until(find)).await {
            Ok(line) => line,
            Err(status) => panic!("{} ended ({status}) before it wrote {text:?}", self.name),
        }
    }

    /// Waits for the ready line of a program that was only spawned.
    ///
    /// # Panics
    /// When it ends instead, or says nothing in time.
    pub async fn wait_until_ready(&mut self) {
        let line = self.line_with(" ready: ").await;
        self.addresses = addresses(&line);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- {} (pid {}) wrote:\n{}---",
                self.name,
                self.child.pid,
                self.logs()
            );
        }
    }
}

fn complete_lines(output: &str) -> impl Iterator<Item = &str> {
    output
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
}

fn addresses(ready_line: &str) -> BTreeMap<String, SocketAddr> {
    let (_, list) = ready_line.split_once(" ready: ").unwrap_or_default();
    let pairs = list
        .split(", ")
        .filter_map(|pair| pair.trim().split_once(' '));
    pairs
        .filter_map(|(name, address)| Some((name.to_owned(), address.parse().ok()?)))
        .collect()
}

/// `target/debug` or `target/release`: where a program of the workspace stands itself, and one up for a test in `deps`.
fn target_dir() -> PathBuf {
    let this = std::env::current_exe().expect("a program knows its own executable");
    let dir = this.parent().expect("a program stands in a directory");
    let dir = match dir.file_name().and_then(OsStr::to_str) {
        Some("deps" | "examples") => dir.parent().expect("deps is in target/PROFILE"),
        _ => dir,
    };
    dir.to_owned()
}

fn build(binary: &str) {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--bin", binary, "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    cargo.arg("--workspace");
    if target_dir().ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo can be run");
    assert!(status.success(), "cargo build of {binary}: {status}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_gives_addresses_by_name() {
        let found = addresses("highpress-counter ready: grpc 127.0.0.1:50051, admin [::1]:8081");
        assert_eq!(found["grpc"], "127.0.0.1:50051".parse().unwrap());
        assert_eq!(found["admin"], "[::1]:8081".parse().unwrap());
    }

    #[tokio::test]
    async fn output_is_seen_while_it_runs_and_a_frozen_program_can_be_killed() {
        let program = Program::at("sh")
            .args(["-c", "echo one; echo 'x ready: http 127.0.0.1:9'; sleep 60"])
            .start()
            .await;
        assert_eq!(program.address("http").port(), 9);
        program.freeze().await;
        assert!(!program.has_ended());
        program.kill().await;
        assert!(program.has_ended());
        assert!(program.logs().starts_with("one\n"));
    }

    #[tokio::test]
    async fn a_program_that_ends_by_itself_has_a_status_and_its_last_words() {
        let ended = Program::at("sh")
            .args(["-c", "echo bad >&2; exit 2"])
            .run()
            .await;
        assert_eq!(ended.status.code(), Some(2));
        assert_eq!(ended.output, "bad\n");
    }
}
