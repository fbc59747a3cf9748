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
use crate::cli::{Cli, Command, ExplainArgs, RunArgs, SwitchArgs};
use crate::destination::{self, Switches};
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
        Command::Routes { file, data } => routes(&file, data.as_deref()),
        Command::Explain(args) => explain(&args),
        Command::Switch(args) => switch(&args),
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
    let data = args.data.unwrap_or_else(|| data_beside(&args.config));
    let app = App::start(Options {
        config: Source::File(args.config),
        data: Some(data),
        listen: Vec::new(),
        admin: args.admin,
        threads: args.threads,
        advertise: args.advertise,
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

/// Where state is kept if nobody says: beside the configuration file.
fn data_beside(config: &Path) -> PathBuf {
    config.parent().unwrap_or(Path::new("")).join("data")
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
        (Some(admin), _) => ask::running(admin, &question)?,
        (None, Some(file)) => {
            let file = Path::new(file);
            let switches = switches(file, args.data.as_deref())?;
            explain::planned(&plan(file)?, &question, switches).map_err(Failure::Usage)?
        }
        (None, None) => String::new(),
    };
    print!("{text}");
    Ok(())
}

fn routes(file: &Path, data: Option<&Path>) -> Result<(), Failure> {
    let plan = plan(file)?;
    let switches = switches(file, data)?;
    print!("{}", table::of(&plan, &switches));
    Ok(())
}

/// The switches that a gateway with this configuration file would start with.
fn switches(file: &Path, data: Option<&Path>) -> Result<Switches, Failure> {
    let beside = data_beside(file);
    let switches = destination::read(data.unwrap_or(&beside));
    switches.map_err(|error| Failure::Failed(error.to_string()))
}

fn switch(args: &SwitchArgs) -> Result<(), Failure> {
    let answer = match (&args.route, &args.cluster, args.back) {
        (None, ..) => ask::switches(&args.admin),
        (Some(route), Some(cluster), _) => ask::switch(&args.admin, route, Some(cluster)),
        (Some(route), None, true) => ask::switch(&args.admin, route, None),
        (Some(_), None, false) => {
            let why = "write ROUTE CLUSTER to switch, ROUTE --back to undo it, or nothing to list";
            return Err(Failure::Usage(why.to_owned()));
        }
    };
    print!("{}", answer?);
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
