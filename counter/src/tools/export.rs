//! `export`: all counts as CSV.

use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::counts::{Counts, StoreArgument};

/// The first line of the CSV.
pub(super) const HEADER: &str = "resource_id,counter_type,value";

/// What `--help` says.
pub(super) const HELP: &str = "\
Writes `resource_id,counter_type,value` of every counter. Each count is true at the moment at which
it is read; increments go on meanwhile. `migrate --from FILE` reads it.

  highpress-counter export --store redis://127.0.0.1:6379 --out counts.csv

Exit status: 0 done, 1 some were left out or could not be read, 2 bad arguments.";

/// The arguments of `export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Where to write; standard output if not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) async fn run(arguments: &ExportArguments) -> anyhow::Result<()> {
    let counts = Counts::open(&arguments.store).await?;
    let out: Box<dyn Write + Send> = match &arguments.out {
        Some(path) => Box::new(
            std::fs::File::create(path).with_context(|| format!("--out: {}", path.display()))?,
        ),
        None => Box::new(stdout()),
    };
    let mut out = BufWriter::new(out);
    writeln!(out, "{HEADER}")?;
    let (mut written, mut failed) = (0u64, Ok(()));
    let strange = counts
        .each(|counter, count| {
            let (resource, kind) = (
                quoted(counter.resource_id()),
                quoted(counter.counter_type()),
            );
            if failed.is_ok() {
                failed = writeln!(out, "{resource},{kind},{count}");
                written += 1;
            }
        })
        .await?;
    failed?;
    out.flush()?;
    eprintln!("{written} counters written");
    if strange > 0 {
        anyhow::bail!(
            "{strange} keys that begin with `counter:` are no counters or hold no count: left out"
        );
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    if text.contains(['"', ',']) || text.starts_with(' ') || text.ends_with(' ') {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

/// The fields of a line of CSV; ids have no line breaks. `None` if it is none.
pub(super) fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None => return after.is_empty().then_some(fields),
        }
    }
}

fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut field, mut rest) = (String::new(), text);
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Some((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["a", "", "a,b", "say \"hi\"", "\"", " a ", "é:x"] {
            let line = format!("{},like,-3", quoted(text));
            assert_eq!(fields(&line).unwrap(), [text, "like", "-3"], "{line}");
        }
    }

    #[test]
    fn what_is_no_csv_is_refused() {
        for line in ["\"a", "\"a\"b,c", "\"a\"\""] {
            assert_eq!(fields(line), None, "{line}");
        }
    }
}
