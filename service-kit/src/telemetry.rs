//! Logs: one subscriber per process, to standard error, as text or as JSON lines.
//!
//! The filter comes from `HIGHPRESS_LOG` (`info`, `debug`, `highpress_proxy=trace,h2=warn`, ...), the form from
//! `HIGHPRESS_LOG_FORMAT` (`text`, `json`). Records of the `log` crate, which pingora writes, go the same way.
//! Standard output stays free for what a program prints for its caller. Filter syntax:
//! <https://docs.rs/tracing-subscriber/0.3/tracing_subscriber/filter/struct.EnvFilter.html#directives>

use std::env;
use std::io::{self, IsTerminal as _};
use std::str::FromStr;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The environment variable of the filter.
pub const FILTER_VARIABLE: &str = "HIGHPRESS_LOG";
/// The environment variable of the form.
pub const FORMAT_VARIABLE: &str = "HIGHPRESS_LOG_FORMAT";

/// Our own programs at `info`, libraries only when something is wrong: pingora tells each connection's end at `info`, and
/// as an error each kept connection to a backend that it finds closed, which it replaces.
const DEFAULT_FILTER: &str = "info,pingora_core=warn,pingora_core::connectors=off,pingora_proxy=warn,h2=warn,hyper=warn,tonic=warn,fjall=warn,lsm_tree=warn";

type Reload = Box<dyn Fn(EnvFilter) -> Result<(), tracing_subscriber::reload::Error> + Send + Sync>;

/// Gives the process's subscriber another filter.
static RELOAD: OnceLock<Reload> = OnceLock::new();

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: one line, colours on a terminal.
    #[default]
    Text,
    /// For log collectors: one JSON object per line.
    Json,
}

impl FromStr for Format {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(TelemetryError::Format(other.to_owned())),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("{FILTER_VARIABLE}: `{filter}` is not a log filter: {why}")]
    Filter {
        /// The text as given.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// The form is neither `text` nor `json`.
    #[error("{FORMAT_VARIABLE}: `{0}` is not a log format: use text or json")]
    Format(String),
    /// The process has a subscriber already.
    #[error("logging is set up already")]
    AlreadySet,
    /// The filter cannot be changed.
    #[error("the log filter cannot be changed: {0}")]
    Reload(#[from] tracing_subscriber::reload::Error),
}

/// Sets logging up from the environment.
pub fn init() -> Result<(), TelemetryError> {
    let filter = env::var(FILTER_VARIABLE).unwrap_or_default();
    let format = match env::var(FORMAT_VARIABLE) {
        Ok(text) if !text.is_empty() => text.parse()?,
        _ => Format::Text,
    };
    init_with(&filter, format)
}

/// Sets logging up with a given filter (empty: the default one) and form.
pub fn init_with(filter: &str, format: Format) -> Result<(), TelemetryError> {
    let filter = parse_filter(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // `try_init` also installs the bridge that turns `log` records into events.
    let (done, reload): (_, Reload) = match format {
        Format::Text => {
            let builder = builder
                .with_ansi(io::stderr().is_terminal())
                .with_filter_reloading();
            let handle = builder.reload_handle();
            let reload = Box::new(move |filter| handle.reload(filter));
            (builder.finish().try_init(), reload)
        }
        Format::Json => {
            let builder = builder
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .with_filter_reloading();
            let handle = builder.reload_handle();
            let reload = Box::new(move |filter| handle.reload(filter));
            (builder.finish().try_init(), reload)
        }
    };
    done.map_err(|_| TelemetryError::AlreadySet)?;
    RELOAD.set(reload).map_err(|_| TelemetryError::AlreadySet)
}

/// Gives the log another filter (empty: the default one), from the next line on. Nothing happens where no log was set up.
pub fn set_filter(filter: &str) -> Result<(), TelemetryError> {
    let filter = parse_filter(filter)?;
    match RELOAD.get() {
        Some(reload) => Ok(reload(filter)?),
        None => Ok(()),
    }
}

/// Whether a text is a filter; else why it is none.
pub fn check_filter(filter: &str) -> Result<(), String> {
    match EnvFilter::try_new(filter) {
        Ok(_) => Ok(()),
        Err(why) => Err(format!("not a log filter: {why}")),
    }
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let text = if filter.trim().is_empty() {
        DEFAULT_FILTER
    } else {
        filter
    };
    EnvFilter::try_new(text).map_err(|why| TelemetryError::Filter {
        filter: filter.to_owned(),
        why: why.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn an_empty_filter_is_the_default_one() {
        assert_eq!(
            parse_filter(" ").unwrap().to_string(),
            parse_filter(DEFAULT_FILTER).unwrap().to_string()
        );
    }

    #[test]
    fn a_filter_or_format_that_cannot_be_read_is_named() {
        let error = parse_filter("highpress=loud").unwrap_err().to_string();
        assert!(
            error.starts_with("HIGHPRESS_LOG: `highpress=loud` is not a log filter"),
            "{error}"
        );
        let error = "xml".parse::<Format>().unwrap_err().to_string();
        assert_eq!(
            error,
            "HIGHPRESS_LOG_FORMAT: `xml` is not a log format: use text or json"
        );
    }
}
