//! Signals: SIGTERM and SIGINT ask for a drain, a second one ends the process at once; SIGHUP asks for a reload.
//!
//! Handlers are installed when the function is called, not when the future is first polled, so a signal that comes
//! during start-up is not lost and does not kill the process half-way.

use std::fmt;
use std::future::Future;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal as listen};

use crate::program::EXIT_FAILED;

/// Which signal asked the program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM: a supervisor.
    Terminate,
    /// SIGINT: a person at the terminal.
    Interrupt,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// Resolves at the first SIGTERM or SIGINT. From then on the next one ends the process at once with status 1.
pub fn signal() -> io::Result<impl Future<Output = Asked> + Send + 'static> {
    let mut signals = Signals {
        terminate: listen(SignalKind::terminate())?,
        interrupt: listen(SignalKind::interrupt())?,
    };
    Ok(async move {
        let asked = signals.next().await;
        tokio::spawn(async move {
            let again = signals.next().await;
            tracing::warn!(signal = %again, "second signal: ending without finishing the drain");
            std::process::exit(i32::from(EXIT_FAILED));
        });
        asked
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.interrupt.recv() => Asked::Interrupt,
        }
    }
}

/// The SIGHUPs from now on. While this lives (and after: handlers stay) SIGHUP does not end the process.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Returns at the next SIGHUP; several that came meanwhile are one.
    pub async fn next(&mut self) {
        // `None` would mean that the runtime is going away: then nobody must be told to reload.
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Starts to listen for SIGHUP.
pub fn sighup() -> io::Result<Hangups> {
    listen(SignalKind::hangup()).map(Hangups)
}
