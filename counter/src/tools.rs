//! Tools beside the service: `audit` holds counts against events and rankings, `migrate` brings counts in, `export` writes them out.
//!
//! They work on a store in use. Progress goes to standard error if that is a terminal, results to standard output.

mod announce;
mod audit;
mod counts;
mod export;
mod log;
mod migrate;
mod progress;
mod ranking;

use clap::Subcommand;

use self::audit::AuditArguments;
use self::export::ExportArguments;
use self::migrate::MigrateArguments;

/// What to do instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Tool {
    /// Compare counts with what events and rankings say of them
    #[command(long_about = audit::HELP)]
    Audit(AuditArguments),
    /// Bring in counts from a monolith's Redis or a CSV file while it is live, and announce them
    #[command(long_about = migrate::HELP)]
    Migrate(MigrateArguments),
    /// Write all counts as CSV
    #[command(long_about = export::HELP)]
    Export(ExportArguments),
}

/// Runs a tool to its end.
pub async fn run(tool: &Tool) -> anyhow::Result<()> {
    match tool {
        Tool::Audit(arguments) => audit::run(arguments).await,
        Tool::Migrate(arguments) => migrate::run(arguments).await,
        Tool::Export(arguments) => export::run(arguments).await,
    }
}

/// A mistake in the arguments: status 2.
fn wrong(flag: &str, why: impl std::fmt::Display) -> anyhow::Error {
    service_kit::Mistakes::from(vec![format!("{flag}: {why}")]).into()
}
