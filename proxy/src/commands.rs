//! What each command of `highpress-proxy` does, and the status that it exits with: 0 done or drained, 2 mistakes
//! in arguments or configuration (every one is printed), 1 anything else.

mod ask;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::{Problems, problems_text};
use service_kit::{program, shutdown, telemetry};
use transcode::Profile;

use crate::app::{App, Options, Source, StartError};
use crate::cli::{Cli, Command, ExplainArgs, RunArgs};
use crate::explain::{self, Question};
use crate::route_table::{self, Plan};

const PROGRAM: &str = "highpress-proxy";

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The caller's: status 2.
    #[error("{0}")]
    Usage(String),
    /// Anything else: status 1.
    #[error("{0}")]
    Failed(String),
}

/// Runs the command.
pub fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Run(args) => serve(args),
        Command::Check { files } => check(&files),
        Command::Routes { file } => plan(&file).map(|plan| print!("{}", table::of(&plan))),
        Command::Explain(args) => explain(&args),
        Command::Profile { name } => profile(&name),
    };
    match result {
        Ok(()) => ExitCode::from(program::EXIT_DONE),
        Err(Failure::Usage(why)) => {
            eprintln!("{}", why.trim_end());
            ExitCode::from(program::EXIT_USAGE)
        }
        Err(Failure::Failed(why)) => {
            eprintln!("{PROGRAM}: {}", why.trim_end());
            ExitCode::from(program::EXIT_FAILED)
        }
    }
}

fn serve(args: RunArgs) -> Result<(), Failure> {
    telemetry::init().map_err(|error| Failure::Usage(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime
        .map_err(|error| Failure::Failed(error.to_string()))?
        .block_on(serve_until_asked(args))
}

async fn serve_until_asked(args: RunArgs) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Failed(error.to_string());
    let asked = shutdown::signal().map_err(failed)?;
    let mut hangups = shutdown::sighup().map_err(failed)?;
    let app = App::start(Options {
        config: Source::File(args.config),
        listen: Vec::new(),
        admin: args.admin,
        threads: args.threads,
        drain: Duration::from_secs(args.drain_seconds),
    });
    let app = app.await.map_err(|error| match error {
        StartError::Config(problems) => Failure::Usage(problems_text(&problems)),
        other => Failure::Failed(other.to_string()),
    })?;
    let mut addresses: Vec<_> = app
        .listeners
        .iter()
        .map(|address| ("http", *address))
        .collect();
    addresses.push(("admin", app.admin));
    program::ready(PROGRAM, &addresses);
    tokio::pin!(asked);
    loop {
        tokio::select! {
            asked = &mut asked => {
                tracing::info!(?asked, "draining");
                break;
            }
            () = hangups.next() => app.reload(),
        }
    }
    match app.drain().await {
        0 => tracing::info!("drained"),
        cut => tracing::warn!(cut, "connections were cut at the end of the drain"),
    }
    Ok(())
}

fn check(files: &[PathBuf]) -> Result<(), Failure> {
    let problems: Vec<String> = files
        .iter()
        .filter_map(|file| read(file).err())
        .map(|problems| problems_text(&problems))
        .collect();
    if problems.is_empty() {
        println!("ok");
        return Ok(());
    }
    Err(Failure::Usage(problems.concat()))
}

fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let (words, file) = match (&args.admin, args.words.as_slice()) {
        (Some(_), words @ [_, _]) => (words, None),
        (None, [file, words @ ..]) if words.len() == 2 => (words, Some(file)),
        (Some(_), _) => return Err(Failure::Usage("with --admin write METHOD PATH".to_owned())),
        (None, _) => {
            return Err(Failure::Usage(
                "write FILE METHOD PATH, or --admin URL METHOD PATH".to_owned(),
            ));
        }
    };
    let question = Question {
        method: words[0].to_uppercase(),
        target: words[1].clone(),
        body: args.body.clone(),
        headers: Vec::new(),
    };
    let question = question
        .with_header_lines(&args.headers)
        .map_err(Failure::Usage)?;
    let text = match (&args.admin, file) {
        (Some(admin), _) => ask::running(admin, &question).map_err(Failure::Failed)?,
        (None, Some(file)) => {
            explain::planned(&plan(Path::new(file))?, &question).map_err(Failure::Usage)?
        }
        (None, None) => String::new(),
    };
    print!("{text}");
    Ok(())
}

fn profile(name: &str) -> Result<(), Failure> {
    let known = || Profile::builtin_names().collect::<Vec<_>>().join(", ");
    let profile = Profile::builtin(name);
    let profile = profile.ok_or_else(|| {
        Failure::Usage(format!(
            "no built-in profile `{name}`; there are {}",
            known()
        ))
    })?;
    print!("{}", profile.to_yaml());
    Ok(())
}

fn plan(file: &Path) -> Result<Plan, Failure> {
    read(file).map_err(|problems| Failure::Usage(problems_text(&problems)))
}

/// Reads and compiles a file as `run` does.
fn read(file: &Path) -> Result<Plan, Problems> {
    route_table::compile(&Arc::new(mesh_config::load(file)?))
}
