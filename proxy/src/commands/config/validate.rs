//! Validates a value as its reader would: the gateway's by compiling it here, a service's by asking its own program.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use mesh_config::{Problem, Problems, problems_text};

use super::super::Failure;
use super::target::{GATEWAY, Target};
use super::version;
use crate::route_table;

/// What is to be said although nothing is wrong.
pub(super) fn check(target: &Target, text: &str, name: &str) -> Result<String, Failure> {
    if target.service != GATEWAY {
        return service(&target.service, text, name);
    }
    let version = version(target, text);
    let sources = mesh_config::Sources {
        file: target.sources.file.clone(),
        ..mesh_config::Sources::default()
    };
    let checked = mesh_config::load_from(&sources, Some(&version))
        .and_then(|snapshot| route_table::compile(&Arc::new(snapshot)).map(|_| ()));
    checked.map_err(|problems| {
        // People know the file that they have written, not the key that it would have been under.
        let renamed = problems.into_iter().map(|problem| Problem {
            file: match *problem.file == *version.source() {
                true => Arc::from(name),
                false => problem.file,
            },
            ..problem
        });
        let renamed: Problems = renamed.collect();
        let mut text = problems_text(&renamed);
        if sources.file.is_none() {
            text.push_str("(read without a file: if the value replaces only some keys of the gateway's file, give that file by --file)\n");
        }
        Failure::Usage(text)
    })?;
    Ok(String::new())
}

/// Asks the service's program, which stands beside this one.
fn service(service: &str, text: &str, name: &str) -> Result<String, Failure> {
    let program = format!("highpress-{service}");
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot run {program}: {error}"));
    let path = std::env::current_exe().map_err(failed)?;
    let path = path.with_file_name(&program);
    if !path.is_file() {
        return Ok(format!(
            "not validated: there is no program {program} beside this one\n"
        ));
    }
    let mut child = Command::new(path)
        .args(["--check-config", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read to the end says why.
        let _ = stdin.write_all(text.as_bytes());
    }
    let ended = child.wait_with_output().map_err(failed)?;
    if ended.status.success() {
        return Ok(String::new());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let renamed = said.lines().map(|line| match line.strip_prefix("-:") {
        Some(rest) => format!("{name}:{rest}\n"),
        None => format!("{line}\n"),
    });
    Err(Failure::Usage(renamed.collect()))
}
