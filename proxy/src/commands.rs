//! What each command of `highpress-proxy` does, and the status that it exits with: 0 done or drained, 2 mistakes
//! in arguments or configuration (every one is printed), 1 anything else.

mod against;
mod ask;
mod config;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use mesh_config::{Learnt, Problems, Sets, Sources, problems_text};
use service_kit::{program, shutdown, telemetry};
use transcode::Profile;

use crate::announce::Announce;
use crate::app::{App, Options, Source, StartError};
use crate::cli::{CheckArgs, Cli, Command, ExplainArgs, RunArgs, SwitchArgs};
use crate::descriptors;
use crate::destination::{self, Switches};
use crate::explain::{self, Question};
use crate::openapi;
use crate::route_table::{self, Plan, Waiting};

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
        Command::Check(args) => check(&args),
        Command::Openapi { file, data } => openapi(&file, data.as_deref()),
        Command::Routes { file, data } => routes(&file, data.as_deref()),
        Command::Explain(args) => explain(&args),
        Command::Switch(args) => switch(&args),
        Command::Config(args) => config::run(args),
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
    let sources = args.sources().ok_or_else(|| {
        let why = "where is the configuration? Give --config FILE, or --consul URL with --consul-kv KEY, or both";
        Failure::Usage(why.to_owned())
    })?;
    let data = args.data.clone().unwrap_or_else(|| data_of(&sources));
    let drain = args.drain();
    let app = App::start(Options {
        config: Source::Watched(Box::new(sources)),
        data: Some(data),
        listen: args.listen,
        admin: args.admin,
        threads: args.threads,
        announce: Announce {
            advertise: args.advertise,
            tags: args.tags,
            weight: args.weight,
        },
        drain,
    });
    tokio::pin!(asked);
    let app = tokio::select! {
        app = app => app,
        // What waits for a configuration has nothing to drain.
        _ = &mut asked => return Ok(()),
    };
    let app = app.map_err(|error| match error {
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

/// Where state is kept if no flag says it: where the file says, else beside it.
fn data_of(sources: &Sources) -> PathBuf {
    mesh_config::data_directory(sources).unwrap_or_else(|| {
        let file = sources.file.as_deref().unwrap_or(Path::new(""));
        file.parent().unwrap_or(Path::new("")).join("data")
    })
}

/// The same for a configuration file.
fn data_beside(config: &Path) -> PathBuf {
    data_of(&Sources {
        file: Some(config.to_owned()),
        ..Sources::default()
    })
}

fn check(args: &CheckArgs) -> Result<(), Failure> {
    let files = &args.files;
    let mut problems = Vec::new();
    for file in files {
        match read(file) {
            Ok(plan) => no_mistakes(&plan),
            Err(wrong) => problems.push(problems_text(&wrong)),
        }
    }
    if !problems.is_empty() {
        return Err(Failure::Usage(problems.concat()));
    }
    if let Some(old) = &args.against {
        against::check(old, files)?;
    }
    println!("ok");
    Ok(())
}

/// What is no mistake: what may be none, and what nobody can know before the gateway runs.
fn no_mistakes(plan: &Plan) {
    for warning in plan.snapshot.warnings() {
        eprintln!("warning: {warning}");
    }
    for Waiting { route, what } in &plan.waiting {
        eprintln!("{PROGRAM}: not checked: route {route} needs {what}");
    }
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
            explain::planned(&plan_kept(file, args.data.as_deref())?, &question, switches)
                .map_err(Failure::Usage)?
        }
        (None, None) => String::new(),
    };
    print!("{text}");
    Ok(())
}

fn openapi(file: &Path, data: Option<&Path>) -> Result<(), Failure> {
    let plan = plan_kept(file, data)?;
    for Waiting { route, what } in &plan.waiting {
        eprintln!("{PROGRAM}: left out: route {route} needs {what}");
    }
    let document = openapi::document(&plan, openapi::servers(&plan));
    println!("{document:#}");
    Ok(())
}

fn routes(file: &Path, data: Option<&Path>) -> Result<(), Failure> {
    let plan = plan_kept(file, data)?;
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

/// Compiles a file with the descriptors that a gateway with its data has learnt last; without them if they do not fit.
fn plan_kept(file: &Path, data: Option<&Path>) -> Result<Plan, Failure> {
    let beside = data_beside(file);
    let kept = descriptors::kept(data.unwrap_or(&beside));
    let known = !kept.is_empty();
    let plan = read_with(file, kept).or_else(|problems| match known {
        true => read(file),
        false => Err(problems),
    });
    plan.map_err(|problems| Failure::Usage(problems_text(&problems)))
}

/// Reads and compiles a file as `run` does.
fn read(file: &Path) -> Result<Plan, Problems> {
    read_with(file, Sets::new())
}

fn read_with(file: &Path, learnt: Sets) -> Result<Plan, Problems> {
    let sources = Sources {
        file: Some(file.to_owned()),
        learnt: Learnt::with(learnt),
        ..Sources::default()
    };
    route_table::compile(&Arc::new(mesh_config::load_from(&sources, None)?))
}
