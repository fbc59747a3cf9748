//! `migrate`: brings in counts from where they were before, while both are in use, and announces them to analytics.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::announce::Announcer;
use super::counts::{StoreArgument, redis};
use super::export::fields;
use super::progress::Progress;
use super::wrong;
use crate::id::CounterId;
use crate::settings::StoreChoice;
use crate::store::redis::Target;

/// What `--help` says.
pub(super) const HELP: &str = "\
Brings counts into the Redis of the mesh, and announces them by events (delta 0, the count as
new_value, source \"migrate\"), so that all-time rankings know counters that nobody has touched since.

From the mesh's own Redis, where the monolith's `counter:ID:TYPE` keys are read as they stand: only
announces.
  highpress-counter migrate --store redis://127.0.0.1:6379

From another Redis, or a CSV file (resource_id,counter_type,value; as `export` writes it): adds what
the source has. Run again, it adds what the source has counted since: so run it while the monolith
still counts, switch, and run it once more.
  highpress-counter migrate --store redis://mesh:6379 --from redis://monolith:6379
  highpress-counter migrate --store redis://mesh:6379 --from counts.csv

Events wait in the outbox and are sent by the counter services that run with --events kafka://.
Exit status: 0 done, 1 some could not be taken (they are named), 2 bad arguments.";

/// The arguments of `migrate`.
#[derive(Debug, Clone, Args)]
pub struct MigrateArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Where the counts are now: redis://HOST:PORT or a CSV file; the store itself if not given
    #[arg(long, value_name = "SOURCE")]
    from: Option<String>,
    /// Bring in counts without announcing them
    #[arg(long)]
    silent: bool,
}

/// Where counts come from.
enum Source {
    /// The store itself: its counts are announced as they are.
    Itself,
    Redis(Target),
    Csv(PathBuf),
}

pub(super) async fn run(arguments: &MigrateArguments) -> anyhow::Result<()> {
    let target: Target = match arguments.store.read()? {
        StoreChoice::Redis(target) => target,
        _ => {
            return Err(wrong(
                "--store",
                "counts are brought into Redis only: redis://HOST:PORT",
            ));
        }
    };
    let source = match arguments.from.as_deref() {
        None if arguments.silent => {
            return Err(wrong(
                "--silent",
                "then there is nothing to do without --from",
            ));
        }
        None => Source::Itself,
        Some(url) if url.starts_with("redis") && url.contains("://") => {
            Source::Redis(url.parse().map_err(|why: String| wrong("--from", why))?)
        }
        Some(path) => Source::Csv(path.into()),
    };
    let outbox = (!arguments.silent).then_some(u64::MAX);
    let mut announcer = Announcer::new(redis(target.clone(), outbox).await?);
    let strange = match source {
        Source::Itself => from_redis(target, &mut announcer, false).await?,
        Source::Redis(source) => from_redis(source, &mut announcer, true).await?,
        Source::Csv(path) => from_csv(&path, &mut announcer).await?,
    };
    announcer.flush().await?;
    println!(
        "{} counters taken, {} refused, {strange} entries that are no counters",
        announcer.done, announcer.refused
    );
    anyhow::ensure!(
        announcer.refused == 0,
        "{} counters could not be taken",
        announcer.refused
    );
    Ok(())
}

async fn from_redis(
    target: Target,
    announcer: &mut Announcer,
    bring_in: bool,
) -> anyhow::Result<u64> {
    let store = redis(target, None).await?;
    let mut progress = Progress::new("counters", store.size().await.ok());
    let (mut scan, mut strange) = (store.scan(), 0);
    while let Some(piece) = scan.next().await? {
        strange += piece.strange;
        progress.add(piece.keys);
        for (counter, count) in piece.counts {
            announcer.take(counter, bring_in.then_some(count)).await?;
        }
    }
    Ok(strange)
}

async fn from_csv(path: &Path, announcer: &mut Announcer) -> anyhow::Result<u64> {
    let file = std::fs::File::open(path)
        .map_err(|why| wrong("--from", format!("{}: {why}", path.display())))?;
    let size = file.metadata().map(|metadata| metadata.len()).ok();
    let (mut progress, mut strange) = (Progress::new("bytes", size), 0);
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("{}:{}", path.display(), at + 1))?;
        progress.add(line.len() as u64 + 1);
        if line.is_empty() || at == 0 && line.starts_with("resource_id,") {
            continue;
        }
        match counter(&line) {
            Ok((counter, count)) => announcer.take(counter, Some(count)).await?,
            Err(why) => {
                strange += 1;
                eprintln!("{}:{}: {why}", path.display(), at + 1);
            }
        }
    }
    Ok(strange)
}

fn counter(line: &str) -> Result<(CounterId, i64), String> {
    let fields = fields(line).ok_or("not CSV")?;
    let [resource, kind, count] = fields.as_slice() else {
        return Err("not resource_id,counter_type,value".to_owned());
    };
    let counter = CounterId::new(resource, kind).map_err(|error| error.to_string())?;
    let count = count
        .parse()
        .map_err(|_| format!("{count:?} is not a 64-bit integer"))?;
    Ok((counter, count))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_is_a_counter_and_its_count() {
        let (id, count) = counter("\"a,b\",like,-9223372036854775808").unwrap();
        assert_eq!((id.key(), count), ("a,b:like", i64::MIN));
        for line in ["a,like", "a,like,1,2", "a,like,many", ",like,1", "a,l:e,1"] {
            assert!(counter(line).is_err(), "{line}");
        }
    }
}
