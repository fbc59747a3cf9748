//! Child processes that cannot outlive the test process.
//!
//! `setpriv --pdeathsig` asks the kernel to kill the child when the *thread* that started it ends, so all children are
//! started by one thread that lives as long as the process: a `kill -9` of a test run leaves nothing behind.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;

type Spawned = std::io::Result<Child>;
/// A command to start, and where the child goes.
type Job = (Command, Sender<Spawned>);

fn spawner() -> Sender<Job> {
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let sender = SPAWNER.get_or_init(|| {
        let (sender, jobs): (_, Receiver<Job>) = channel();
        std::thread::spawn(move || {
            for (mut command, answer) in jobs {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    sender.lock().expect("nobody panics with this lock").clone()
}

fn spawn(command: Command) -> Spawned {
    let (sender, answer) = channel();
    spawner()
        .send((command, sender))
        .expect("the spawner lives as long as the process");
    answer.recv().expect("the spawner answers")
}

/// A running program, its output collected; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) pid: u32,
    // A descriptor, so that a signal never reaches another process that got the same number later.
    handle: OwnedFd,
    waiter: Option<JoinHandle<()>>,
    output: Arc<Output>,
    exited: watch::Receiver<Option<ExitStatus>>,
}

/// What a program has written so far, both streams in the order in which they were read.
#[derive(Debug)]
struct Output {
    text: watch::Sender<String>,
}

impl Output {
    fn push(&self, bytes: &[u8]) {
        let piece = String::from_utf8_lossy(bytes);
        self.text.send_modify(|text| text.push_str(&piece));
    }
}

impl Supervised {
    /// Starts `program` with `command`'s arguments, environment and directory.
    pub(crate) fn start(
        program: &std::ffi::OsStr,
        configure: impl FnOnce(&mut Command),
    ) -> std::io::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        configure(&mut command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = spawn(command)?;
        let output = Arc::new(Output {
            text: watch::Sender::new(String::new()),
        });
        let (reading, read) = channel();
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            collect(out, output.clone(), reading.clone());
            collect(err, output.clone(), reading);
        }
        let (exit, exited) = watch::channel(None);
        let pid = child.id();
        let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let waiter = std::thread::spawn(move || {
            let status = child.wait().expect("our own child can be waited for");
            // Its last words are read first; only a child of its own that keeps the pipe can make that long.
            let _ = read.recv_timeout(Duration::from_secs(1));
            exit.send_replace(Some(status));
        });
        Ok(Self {
            pid,
            handle,
            waiter: Some(waiter),
            output,
            exited,
        })
    }

    /// Everything written so far.
    pub(crate) fn output(&self) -> String {
        self.output.text.borrow().clone()
    }

    /// Resolves with what `find` makes of the output, or with the exit status if the program ends without it.
    pub(crate) async fn output_until<T>(
        &self,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ExitStatus> {
        let mut text = self.output.text.subscribe();
        let mut exited = self.exited.clone();
        loop {
            if let Some(found) = find(&text.borrow_and_update()) {
                return Ok(found);
            }
            if let Some(status) = *exited.borrow_and_update() {
                return find(&text.borrow()).ok_or(status);
            }
            tokio::select! {
                _ = text.changed() => {}
                _ = exited.changed() => {}
            }
        }
    }

    /// Sends a signal, unless the program has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.handle, signal);
    }

    /// Resolves when the program has ended and all its output has been read.
    pub(crate) async fn exit(&self) -> ExitStatus {
        let mut exited = self.exited.clone();
        let status = exited
            .wait_for(Option::is_some)
            .await
            .expect("the waiting thread sends before it ends");
        status.expect("waited for Some")
    }

    /// The exit status, if the program has ended.
    pub(crate) fn try_exit(&self) -> Option<ExitStatus> {
        *self.exited.borrow()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
    }
}

/// Appends the stream to the output, whole lines only: those of the other one come between, never into them. Drops `reading`
/// at its end.
fn collect(mut stream: impl Read + Send + 'static, output: Arc<Output>, reading: Sender<()>) {
    std::thread::spawn(move || {
        let (mut buffer, mut begun) = ([0; 4096], Vec::new());
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            begun.extend_from_slice(&buffer[..read]);
            // Lines of progress end without a new one.
            let ends = begun.iter().rposition(|byte| matches!(byte, b'\n' | b'\r'));
            if let Some(end) = ends {
                output.push(&begun[..=end]);
                begun.drain(..=end);
            }
        }
        output.push(&begun);
        drop(reading);
    });
}
