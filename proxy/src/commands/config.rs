//! `highpress-proxy config`: reads and writes a configuration in Consul. What it writes is validated as its reader would, and
//! only lands on what was read: a writer who was faster is not overwritten, but named.

mod target;
mod validate;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;

use consul::{Client, Expect, MAX_VALUE};
use mesh_config::centre::{History, HistoryError, Outcome, Past, Version, unified};
use serde_json::json;

use self::target::Target;
use super::Failure;
use crate::cli::{ConfigArgs, ConfigCommand};

/// What is under the key.
struct Live(Option<(u64, String)>);

/// A change that is to be written.
struct Change<'a> {
    text: String,
    /// What problems call it.
    name: &'a str,
    note: String,
    base: Option<u64>,
    dry_run: bool,
    /// It was in force before, and nobody refused it.
    proven: bool,
}

/// A key and its history.
struct Center {
    target: Target,
    client: Client,
    history: History,
}

/// Runs the command.
pub(super) fn run(args: ConfigArgs) -> Result<(), Failure> {
    let target = Target::of(&args.at)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    runtime.block_on(async {
        let client = target.client()?;
        let history = History::new(client.clone(), &target.place.key);
        let center = Center {
            target,
            client,
            history,
        };
        let text = match args.command {
            ConfigCommand::Get { version, json } => center.get(version, json).await?,
            ConfigCommand::Set {
                value,
                base,
                dry_run,
                note,
            } => {
                let change = Change {
                    text: read(&value)?,
                    name: &value.display().to_string(),
                    note,
                    base,
                    dry_run,
                    proven: false,
                };
                center.write(change).await?
            }
            ConfigCommand::History { json } => center.list(json).await?,
            ConfigCommand::Diff { old, new } => center.diff(old, new).await?,
            ConfigCommand::Rollback {
                version,
                dry_run,
                note,
            } => center.rollback(version, dry_run, note).await?,
        };
        // Whoever does not read to the end has read enough.
        let _ = std::io::stdout().write_all(text.as_bytes());
        Ok(())
    })
}

/// The text of a file or of standard input.
fn read(file: &Path) -> Result<String, Failure> {
    let shown = file.display();
    let cannot = |why: String| Failure::Usage(format!("{shown}: {why}"));
    let mut bytes = Vec::new();
    // One byte more than Consul takes is too long, however much longer it is.
    let most = MAX_VALUE as u64 + 1;
    let read = if file == Path::new("-") {
        std::io::stdin().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(most).read_to_end(&mut bytes))
    };
    read.map_err(|error| cannot(format!("cannot read it: {error}")))?;
    if bytes.len() > MAX_VALUE {
        let why = "it is longer than 512 KiB, and Consul takes no longer value: leave some keys in the gateway's file";
        return Err(cannot(why.to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| cannot("it is not UTF-8 text".to_owned()))
}

impl Live {
    fn index(&self) -> u64 {
        self.0.as_ref().map_or(0, |(index, _)| *index)
    }

    fn text(&self) -> &str {
        self.0.as_ref().map_or("", |(_, text)| text)
    }

    fn name(&self) -> String {
        match &self.0 {
            Some((index, _)) => format!("version {index}"),
            None => "no such key".to_owned(),
        }
    }

    fn expect(&self) -> Expect {
        match &self.0 {
            Some((index, _)) => Expect::Modified(*index),
            None => Expect::Nothing,
        }
    }
}

impl Center {
    async fn live(&self) -> Result<Live, Failure> {
        let entry = self.client.get(self.target.place.key.as_str()).await;
        let entry = entry.map_err(|error| self.failed(&error))?;
        Ok(Live(entry.map(|entry| {
            let text = String::from_utf8_lossy(&entry.value).into_owned();
            (entry.modified, text)
        })))
    }

    async fn get(&self, version: Option<u64>, as_json: bool) -> Result<String, Failure> {
        let (version, text) = match version {
            Some(version) => (version, self.version(version).await?),
            None => self.live().await?.0.ok_or_else(|| self.absent())?,
        };
        if as_json {
            let key = self.target.place.key.as_str();
            return Ok(format!(
                "{:#}\n",
                json!({ "key": key, "version": version, "value": text })
            ));
        }
        Ok(text)
    }

    /// A version's text, live or from the history.
    async fn version(&self, version: u64) -> Result<String, Failure> {
        match self.history.get(version).await {
            Ok(past) => Ok(past.value.unwrap_or_default()),
            Err(error) => {
                let live = self.live().await?;
                match live.0 {
                    Some((index, text)) if index == version => Ok(text),
                    _ => Err(self.history_failed(&error)),
                }
            }
        }
    }

    async fn list(&self, as_json: bool) -> Result<String, Failure> {
        let all = self.history.list().await;
        let all = all.map_err(|error| self.history_failed(&error))?;
        if as_json {
            let all: Vec<_> = all.iter().map(Past::json).collect();
            return Ok(format!("{:#}\n", json!(all)));
        }
        let live = self.live().await?;
        Ok(table(&all, live.index()))
    }

    async fn diff(&self, old: Option<u64>, new: Option<u64>) -> Result<String, Failure> {
        let (new_name, new_text) = match new {
            Some(new) => (format!("version {new}"), self.version(new).await?),
            None => {
                let live = self.live().await?;
                (live.name(), live.text().to_owned())
            }
        };
        let (old_name, old_text) = match old {
            Some(old) => (format!("version {old}"), self.version(old).await?),
            None => {
                let live = self.live().await?;
                let past = self.before(&live, |_| true).await?;
                (past.name(), self.version(past.version).await?)
            }
        };
        let text = unified(&old_text, &new_text, &old_name, &new_name);
        Ok(if text.is_empty() {
            format!("{old_name} and {new_name} say the same\n")
        } else {
            text
        })
    }

    /// The newest version before the live one of which `is` holds.
    async fn before(&self, live: &Live, is: fn(&Past) -> bool) -> Result<Past, Failure> {
        let all = self.history.list().await;
        let all = all.map_err(|error| self.history_failed(&error))?;
        let older = |past: &Past| live.0.is_none() || past.version < live.index();
        let mut candidates = all
            .into_iter()
            .filter(|past| !past.deleted && older(past) && is(past));
        candidates.next().ok_or_else(|| {
            Failure::Failed(format!("the history has no version before {}", live.name()))
        })
    }

    async fn rollback(
        &self,
        version: Option<u64>,
        dry_run: bool,
        note: String,
    ) -> Result<String, Failure> {
        let live = self.live().await?;
        let version = match version {
            Some(version) => version,
            None => {
                let good = |past: &Past| past.rejected.is_none();
                self.before(&live, good).await?.version
            }
        };
        let note = match note.as_str() {
            "" => format!("rollback to version {version}"),
            note => format!("rollback to version {version}: {note}"),
        };
        let past = self.history.get(version).await;
        let change = Change {
            text: self.version(version).await?,
            name: &format!("version {version}"),
            note,
            base: Some(live.index()),
            dry_run,
            proven: past.is_ok_and(|past| past.rejected.is_none()),
        };
        self.write(change).await
    }

    /// Validates a change, shows it, and writes it if what it was made on top of is still there.
    async fn write(&self, change: Change<'_>) -> Result<String, Failure> {
        let live = self.live().await?;
        if let Some(base) = change.base
            && base != live.index()
        {
            return Err(self.conflict(base, &live).await);
        }
        let told = match validate::check(&self.target, &change.text, change.name) {
            // It may replace only some keys of a file that is not here: its readers have judged it with theirs.
            Err(Failure::Usage(_)) if change.proven && self.target.sources.file.is_none() => {
                let name = change.name;
                format!(
                    "{name} is taken as it was: nobody refused it then (--file validates it anew)\n"
                )
            }
            checked => checked?,
        };
        let mut shown = unified(live.text(), &change.text, &live.name(), change.name);
        if live.0.is_some() && shown.is_empty() {
            return Ok(format!("nothing to write: {} says the same\n", live.name()));
        }
        shown.push_str(&told);
        if change.dry_run {
            shown.push_str("dry run: nothing was written\n");
            return Ok(shown);
        }
        // What was there when the first change is made has a place in the history too.
        if let Live(Some((index, text))) = &live {
            let before = Outcome::applied(*index, text.clone());
            self.recorded(before, &mut shown).await;
        }
        let key = self.target.place.key.as_str();
        let put = self.client.put(key, change.text.clone(), live.expect());
        if !put.await.map_err(|error| self.failed(&error))? {
            return Err(self.conflict(live.index(), &self.live().await?).await);
        }
        match self.live().await? {
            Live(Some((index, text))) if text == change.text => {
                let written = Outcome::written(index, text, change.note);
                self.recorded(written, &mut shown).await;
                // Writing to a string cannot fail.
                let _ = writeln!(shown, "version {index} of {key} written");
            }
            now => {
                let _ = writeln!(
                    shown,
                    "{key} was written, and changed again since: it has {} now",
                    now.name()
                );
            }
        }
        Ok(shown)
    }

    /// A value that is written without its entry is written all the same.
    async fn recorded(&self, outcome: Outcome, shown: &mut String) {
        let version = outcome.version();
        if let Err(why) = self.history.record(outcome).await {
            // Writing to a string cannot fail.
            let _ = writeln!(shown, "version {version} is not in the history: {why}");
        }
    }

    async fn conflict(&self, base: u64, now: &Live) -> Failure {
        let all = self.history.list().await.unwrap_or_default();
        let index = now.index();
        let who = match all.iter().find(|past| past.version == index) {
            Some(past) if past.author != "observed" => {
                format!(", written by {} at {}", past.author, past.time)
            }
            Some(past) => format!(", seen first at {}, by whom is not known", past.time),
            None => String::new(),
        };
        Failure::Failed(format!(
            "refused: this change is made on top of version {base}, but {} has {} now{who}. Nothing was written. Look at \
             it with `config diff {base} {index}`, put your change on top of it, and set it again with `--base {index}`",
            self.target.place.key,
            now.name()
        ))
    }

    fn absent(&self) -> Failure {
        let key = &self.target.place.key;
        Failure::Failed(format!(
            "there is no key {key} in Consul; `config set` makes it"
        ))
    }

    fn failed(&self, error: &consul::Error) -> Failure {
        let consul = &self.target.place.consul.address;
        Failure::Failed(format!("Consul at {consul}: {error}"))
    }

    fn history_failed(&self, error: &HistoryError) -> Failure {
        match error {
            HistoryError::Consul(error) => self.failed(error),
            HistoryError::Unknown(_) => Failure::Usage(error.to_string()),
            HistoryError::Broken(_) | HistoryError::Contended(_) => {
                Failure::Failed(error.to_string())
            }
        }
    }
}

/// One line a version, the newest first; what was refused with its reasons.
fn table(all: &[Past], live: u64) -> String {
    if all.is_empty() {
        return "the history is empty\n".to_owned();
    }
    let width = all.iter().map(|past| past.author.chars().count()).max();
    let width = width.unwrap_or(0).max("AUTHOR".len());
    let mut text = format!(
        "{:>10}  {:20}  {:width$}  {:8}  {:>9}  NOTE\n",
        "VERSION", "TIME", "AUTHOR", "OUTCOME", "LINES"
    );
    for past in all {
        let mark = if past.version == live && !past.deleted {
            "*"
        } else {
            " "
        };
        let changed = |sign: char, header: &str| {
            let lines = past.diff.lines();
            lines
                .filter(|line| line.starts_with(sign) && !line.starts_with(header))
                .count()
        };
        let lines = format!("+{} -{}", changed('+', "+++"), changed('-', "---"));
        let (version, time, author) = (past.version, &past.time, &past.author);
        let line = format!(
            "{mark}{version:>9}  {time:20}  {author:width$}  {:8}  {lines:>9}  {}",
            past.outcome(),
            past.note
        );
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
        for problem in past.rejected.iter().flat_map(|refusal| &refusal.problems) {
            let _ = writeln!(text, "            {problem}");
        }
    }
    text
}

/// A version as its reader would see it.
fn version(target: &Target, text: &str) -> Version {
    Version::new(&target.place.key, text.as_bytes(), 0)
}
