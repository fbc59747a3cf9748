//! The outside of a program: exit statuses, the line that says it is ready.
//!
//! Scripts rely on all of it: 0 done or drained, 2 bad arguments or configuration (every mistake listed), 1 anything else.

use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use crate::settings::Mistakes;
use crate::telemetry::TelemetryError;

/// Exit status: done, or drained.
pub const EXIT_DONE: u8 = 0;
/// Exit status: anything that is not the caller's mistake.
pub const EXIT_FAILED: u8 = 1;
/// Exit status: bad arguments or configuration.
pub const EXIT_USAGE: u8 = 2;

/// Turns a program's end into its exit status and prints to standard error what went wrong.
///
/// [`Mistakes`] (and a bad log filter) anywhere in the error's chain are the caller's: status 2, one line each.
pub fn finish(program: &str, end: anyhow::Result<()>) -> ExitCode {
    let Err(error) = end else {
        return ExitCode::from(EXIT_DONE);
    };
    if let Some(mistakes) = error.downcast_ref::<Mistakes>() {
        complain(mistakes);
        return ExitCode::from(EXIT_USAGE);
    }
    complain(&format!("{program}: {error:#}"));
    let usage = error.downcast_ref::<TelemetryError>().is_some();
    ExitCode::from(if usage { EXIT_USAGE } else { EXIT_FAILED })
}

/// Prints the one line that says that the program is ready, with the addresses that it really bound:
/// `highpress-counter ready: grpc 127.0.0.1:50051, admin 127.0.0.1:8081`.
pub fn ready(program: &str, addresses: &[(&str, SocketAddr)]) {
    // A closed standard output is no reason to stop serving.
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{}", ready_line(program, addresses)).and_then(|()| out.flush());
}

fn ready_line(program: &str, addresses: &[(&str, SocketAddr)]) -> String {
    let mut line = format!("{program} ready:");
    for (at, (name, address)) in addresses.iter().enumerate() {
        let separator = if at == 0 { "" } else { "," };
        let _ = write!(line, "{separator} {name} {address}");
    }
    line
}

fn complain(what: &dyn Display) {
    let _ = writeln!(io::stderr().lock(), "{what}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_ready_line_names_every_address() {
        let grpc = SocketAddr::from(([127, 0, 0, 1], 50051));
        let admin = SocketAddr::from(([127, 0, 0, 1], 8081));
        assert_eq!(
            ready_line("highpress-counter", &[("grpc", grpc), ("admin", admin)]),
            "highpress-counter ready: grpc 127.0.0.1:50051, admin 127.0.0.1:8081"
        );
    }
}
