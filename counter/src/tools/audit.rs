//! `audit`: whether counts, events and rankings say the same of every counter, and where they do not.
//!
//! A store in use changes while it is read, so what differs is looked at again some times before it is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use clap::Args;
use tokio::time::sleep;

use super::counts::{Counts, StoreArgument};
use super::log::{Log, Told};
use super::{ranking, wrong};
use crate::id::CounterId;
use crate::relay::KafkaTarget;

/// How often what differs is looked at again, and how long after.
const LOOKS: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// What `--help` says.
pub(super) const HELP: &str = "\
Compares, for every counter: its count in the store; what its events in Kafka come to (repeats left
out by outbox and number); its value in the all-time ranking of analytics. Says where they differ
and why that may be. The mesh may go on counting meanwhile; what is counted all the time can be held
against rankings only if its events are read too.

  highpress-counter audit --store redis://127.0.0.1:6379 \\
      --events kafka://127.0.0.1:9092/counter-events --analytics 127.0.0.1:50052

Exit status: 0 all agree, 1 something differs (or could not be read), 2 bad arguments.";

/// The arguments of `audit`.
#[derive(Debug, Clone, Args)]
pub struct AuditArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Where the events are: `kafka://HOST:PORT[,HOST:PORT]/TOPIC`; without it events are not looked at
    #[arg(long, value_name = "EVENTS", env = "HIGHPRESS_EVENTS")]
    events: Option<String>,
    /// Where analytics serves gRPC; without it rankings are not looked at
    #[arg(long, value_name = "HOST:PORT")]
    analytics: Option<String>,
    /// How many counters that differ are listed
    #[arg(long, value_name = "N", default_value_t = 20)]
    list: usize,
}

/// What is said of all counters.
#[derive(Default)]
struct Said {
    counts: HashMap<String, i64>,
    ranked: Option<HashMap<String, i64>>,
    exact: bool,
    /// Partitions that no instance of analytics answers for.
    missing: BTreeSet<u32>,
}

pub(super) async fn run(arguments: &AuditArguments) -> anyhow::Result<()> {
    let target: Option<KafkaTarget> = match arguments.events.as_deref() {
        None | Some("none") => None,
        Some(events) => Some(events.parse().map_err(|why| wrong("--events", why))?),
    };
    if target.is_none() && arguments.analytics.is_none() {
        return Err(wrong(
            "--events",
            "name what to compare with: --events, --analytics or both",
        ));
    }
    let counts = Counts::open(&arguments.store).await?;
    let mut said = Said::default();
    let strange = counts
        .each(|counter, count| {
            said.counts.insert(counter.key().to_owned(), count);
        })
        .await?;
    let mut log = None;
    if let Some(target) = target {
        log = Some(read(move || Log::open(&target)).await?);
    }
    let mut differences = BTreeMap::new();
    for look in 0..=LOOKS {
        if look > 0 {
            if let Some(log) = &mut log {
                log.watch(differences.keys());
            }
            count_again(&counts, &mut said, differences.keys()).await?;
        }
        if let Some(address) = &arguments.analytics {
            rank(address, &mut said, log.as_ref()).await?;
        }
        if look > 0 {
            // So that the events of what was just counted are in Kafka.
            sleep(PAUSE).await;
        }
        if let Some(mut open) = log.take() {
            log = Some(read(move || open.read_on().map(|()| open)).await?);
        }
        differences = compare(&said, log.as_ref());
        if differences.is_empty() && said.missing.is_empty() {
            break;
        }
    }
    report(arguments, &said, log.as_ref(), strange, &differences)
}

/// librdkafka waits in its own way.
async fn read<T: Send + 'static>(
    read: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(read).await?
}

async fn count_again(
    counts: &Counts,
    said: &mut Said,
    keys: impl Iterator<Item = &String>,
) -> anyhow::Result<()> {
    let counters: Vec<CounterId> = keys
        .filter_map(|key| CounterId::from_key(key).ok())
        .collect();
    let values = counts.get(counters.clone()).await?;
    for (counter, count) in counters.iter().zip(values) {
        said.counts.insert(counter.key().to_owned(), count);
    }
    Ok(())
}

async fn rank(address: &str, said: &mut Said, log: Option<&Log>) -> anyhow::Result<()> {
    let mut client = ranking::connect(address).await?;
    let keys = said
        .counts
        .keys()
        .chain(log.into_iter().flat_map(|log| log.told.keys()));
    let types: BTreeSet<String> = keys
        .filter_map(|key| key.rsplit_once(':').map(|(_, kind)| kind.to_owned()))
        .collect();
    let mut ranked = HashMap::new();
    said.exact = true;
    said.missing.clear();
    for kind in types {
        let answer = ranking::values(&mut client, &kind, &mut ranked).await?;
        said.exact &= answer.exact;
        said.missing.extend(answer.missing);
    }
    said.ranked = Some(ranked);
    Ok(())
}

/// What is wrong with each counter of which something is.
fn compare(said: &Said, log: Option<&Log>) -> BTreeMap<String, String> {
    let mut keys: BTreeSet<&String> = said.counts.keys().collect();
    keys.extend(log.into_iter().flat_map(|log| log.told.keys()));
    keys.extend(said.ranked.iter().flat_map(HashMap::keys));
    let mut differences = BTreeMap::new();
    for key in keys {
        let count = said.counts.get(key).copied().unwrap_or(0);
        let ranked = said.ranked.as_ref().map(|ranked| ranked.get(key).copied());
        // What is counted all the time was, a moment later, what its events say.
        let was = |value| log.is_some_and(|log| log.has_been(key, value));
        let why: Vec<String> = log
            .and_then(|log| event_difference(count, log.told.get(key).copied(), was(count)))
            .into_iter()
            .chain(ranked.and_then(|ranked| rank_difference(count, ranked, was)))
            .collect();
        if !why.is_empty() {
            differences.insert(key.clone(), format!("count {count}; {}", why.join("; ")));
        }
    }
    differences
}

fn event_difference(count: i64, told: Option<Told>, was: bool) -> Option<String> {
    match told {
        None if count == 0 => None,
        None => Some("no event yet (`migrate` announces it)".to_owned()),
        Some(Told { last, .. }) if !was => Some(format!("its events come to {last}")),
        Some(Told { breaks: 0, .. }) => None,
        Some(Told { breaks, events, .. }) => Some(format!(
            "{breaks} of its {events} events do not follow from the one before"
        )),
    }
}

fn rank_difference(count: i64, ranked: Option<i64>, was: impl Fn(i64) -> bool) -> Option<String> {
    match ranked {
        None if count == 0 => None,
        None => Some("not in the ranking".to_owned()),
        Some(value) if value == count || (was(value) && was(count)) => None,
        Some(value) => Some(format!("{value} in the ranking")),
    }
}

fn report(
    arguments: &AuditArguments,
    said: &Said,
    log: Option<&Log>,
    strange: u64,
    differences: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    println!("counters     {:>12}", said.counts.len());
    if let Some(log) = log {
        let events: u64 = log.told.values().map(|told| told.events).sum();
        println!("events       {events:>12}  of {} counters", log.told.len());
        let before = log.told.values().filter(|told| told.before).count();
        if before > 0 && !log.cut {
            println!("             {before} counters had a count before their first event");
        }
        if log.cut {
            println!(
                "             the beginning of the topic is gone: sums begin later, latest values are compared"
            );
        }
        if log.strange > 0 {
            println!("             {} messages are no events", log.strange);
        }
    }
    if let Some(ranked) = &said.ranked {
        let how = if said.exact {
            "exact"
        } else {
            "with error bounds"
        };
        println!("ranked       {:>12}  {how}", ranked.len());
        if !said.missing.is_empty() {
            println!(
                "             nobody answers for the partitions {:?} of the events",
                said.missing
            );
        }
    }
    if strange > 0 {
        println!("strange keys {strange:>12}  begin with `counter:` and hold no count");
    }
    println!("different    {:>12}", differences.len());
    for (key, why) in differences.iter().take(arguments.list) {
        println!("  {key}: {why}");
    }
    let more = differences.len().saturating_sub(arguments.list);
    if more > 0 {
        println!("  and {more} more (--list {})", differences.len());
    }
    anyhow::ensure!(
        differences.is_empty(),
        "{} counters differ",
        differences.len()
    );
    anyhow::ensure!(said.missing.is_empty(), "rankings are not whole");
    Ok(())
}
