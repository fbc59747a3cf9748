//! A program's settings: a flag beats its environment variable beats its key in Consul beats the configuration file.
//!
//! One name serves all three: `drain_timeout` is `--drain-timeout`, `HIGHPRESS_DRAIN_TIMEOUT` and the key
//! `drain_timeout` of a flat YAML file. A program asks for each setting it knows and then calls [`Settings::finish`], which lists
//! every mistake at once, where it stands: unreadable values, unknown keys, and what the program itself found wrong. An
//! empty environment variable is as if absent.

mod file;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;

use self::file::File;

pub use self::units::{duration, size};

/// The variable that names the configuration file when no flag does.
pub const CONFIG_VARIABLE: &str = "HIGHPRESS_CONFIG";

/// Everything that is wrong with a program's arguments and configuration, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Mistakes(Vec<String>);

impl Mistakes {
    /// The lines, in the order in which they were found.
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl From<Vec<String>> for Mistakes {
    fn from(lines: Vec<String>) -> Self {
        Self(lines)
    }
}

type Environment = Box<dyn Fn(&str) -> Option<String> + Send>;

/// Settings while they are being read.
pub struct Settings {
    environment: Environment,
    /// What the key in Consul says.
    key: File,
    file: File,
    asked: BTreeSet<String>,
    texts: Texts,
    mistakes: Vec<String>,
}

/// The text of each setting that was given, by name.
pub type Texts = Arc<Mutex<BTreeMap<String, String>>>;

/// Where a value stands, as a mistake shows it.
enum Origin {
    Flag(String),
    Variable(String),
    File { at: String, key: String },
}

impl Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File { at, key } => write!(f, "{at}: {key}"),
        }
    }
}

/// The configuration file that the flag or else the environment names.
#[must_use]
pub fn config_file(flag: Option<&Path>) -> Option<PathBuf> {
    named(flag, &|name| std::env::var(name).ok())
}

fn named(flag: Option<&Path>, environment: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let variable = || environment(CONFIG_VARIABLE).filter(|path| !path.is_empty());
    flag.map(Path::to_path_buf)
        .or_else(|| variable().map(PathBuf::from))
}

impl Settings {
    /// Reads the configuration file, if the flag or `HIGHPRESS_CONFIG` names one.
    pub fn open(config: Option<&Path>) -> Self {
        Self::open_in(config, |name| std::env::var(name).ok())
    }

    /// The same with another environment.
    pub fn open_in(
        config: Option<&Path>,
        environment: impl Fn(&str) -> Option<String> + Send + 'static,
    ) -> Self {
        let path = named(config, &environment);
        let mut mistakes = Vec::new();
        let file = path.map_or_else(File::default, |path| File::read(&path, &mut mistakes));
        Self {
            environment: Box::new(environment),
            key: File::default(),
            file,
            asked: BTreeSet::new(),
            texts: Texts::default(),
            mistakes,
        }
    }

    /// The same over a file: `text` is what the key `name` in Consul holds, or in which line it is no text.
    #[must_use]
    pub fn over(mut self, name: &str, text: Result<&str, u32>) -> Self {
        match text {
            Ok(text) => self.key = File::of(name, text, &mut self.mistakes),
            Err(line) => self
                .mistakes
                .push(format!("{name}:{line}: this is not UTF-8 text")),
        }
        self
    }

    /// What is going to be read, for whoever compares settings.
    #[must_use]
    pub fn texts(&self) -> Texts {
        self.texts.clone()
    }

    /// Flags and environment only, for a program whose configuration file is not a flat one.
    pub fn without_file(environment: impl Fn(&str) -> Option<String> + Send + 'static) -> Self {
        Self {
            environment: Box::new(environment),
            key: File::default(),
            file: File::default(),
            asked: BTreeSet::new(),
            texts: Texts::default(),
            mistakes: Vec::new(),
        }
    }

    /// A setting that may be absent. A value that cannot be read is noted and counts as absent.
    pub fn optional<T>(&mut self, name: &str, flag: Option<&str>) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.optional_with(name, flag, |text| {
            text.parse::<T>().map_err(|error| error.to_string())
        })
    }

    /// A setting with a default.
    pub fn value<T>(&mut self, name: &str, flag: Option<&str>, default: T) -> T
    where
        T: FromStr,
        T::Err: Display,
    {
        self.optional(name, flag).unwrap_or(default)
    }

    /// A setting that may be absent, read by a function of the caller's.
    pub fn optional_with<T>(
        &mut self,
        name: &str,
        flag: Option<&str>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (origin, text) = self.find(name, flag)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.mistakes
                    .push(format!("{origin}: {}{why}", Shown(&text)));
                None
            }
        }
    }

    /// A setting with a default, read by a function of the caller's.
    pub fn value_with<T>(
        &mut self,
        name: &str,
        flag: Option<&str>,
        default: T,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        self.optional_with(name, flag, read).unwrap_or(default)
    }

    /// Notes a mistake that only several settings together make, or that shows when they are used.
    pub fn mistake(&mut self, name: &str, why: impl Display) {
        let origin = match self.key.get(name).or_else(|| self.file.get(name)) {
            Some((at, _)) if self.variable(name).is_none() => Origin::File {
                at,
                key: name.to_owned(),
            },
            _ => Origin::Flag(flag_name(name)),
        };
        self.mistakes.push(format!("{origin}: {why}"));
    }

    /// All settings have been asked for: keys of the file that nobody asked for are mistakes too.
    pub fn finish(mut self) -> Result<(), Mistakes> {
        let known: Vec<&str> = self.asked.iter().map(String::as_str).collect();
        for (at, key) in self
            .key
            .keys()
            .chain(self.file.keys())
            .filter(|(_, key)| !self.asked.contains(*key))
        {
            self.mistakes.push(format!(
                "{at}: {key}: unknown key; there is: {}",
                known.join(", ")
            ));
        }
        if self.mistakes.is_empty() {
            Ok(())
        } else {
            Err(Mistakes(self.mistakes))
        }
    }

    fn find(&mut self, name: &str, flag: Option<&str>) -> Option<(Origin, String)> {
        let found = self.origin(name, flag);
        if let Some((_, text)) = &found {
            self.texts.lock().insert(name.to_owned(), text.clone());
        }
        found
    }

    fn origin(&mut self, name: &str, flag: Option<&str>) -> Option<(Origin, String)> {
        self.asked.insert(name.to_owned());
        if let Some(text) = flag {
            return Some((Origin::Flag(flag_name(name)), text.to_owned()));
        }
        if let Some(text) = self.variable(name) {
            return Some((Origin::Variable(variable_name(name)), text));
        }
        let (at, text) = self.key.get(name).or_else(|| self.file.get(name))?;
        Some((
            Origin::File {
                at,
                key: name.to_owned(),
            },
            text.to_owned(),
        ))
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(&variable_name(name)).filter(|text| !text.is_empty())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("mistakes", &self.mistakes)
            .finish_non_exhaustive()
    }
}

fn flag_name(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

fn variable_name(name: &str) -> String {
    format!("HIGHPRESS_{}", name.to_ascii_uppercase())
}

/// A value in a mistake; not shown when it may hold a password (`redis://user:secret@host`).
struct Shown<'a>(&'a str);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains('@') {
            Ok(())
        } else {
            write!(f, "`{}`: ", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::collections::HashMap;
    use std::io::Write as _;
    use std::net::SocketAddr;
    use std::time::Duration;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn open(text: &str, environment: &[(&'static str, &'static str)]) -> (Settings, String) {
        let file = file(text);
        let environment: HashMap<&str, &str> = environment.iter().copied().collect();
        let settings = Settings::open_in(Some(file.path()), move |name| {
            environment.get(name).map(|value| (*value).to_owned())
        });
        (settings, file.path().display().to_string())
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file() {
        let text = "a: 1\nb: 1\nc: 1\n";
        let (mut settings, _) = open(
            text,
            &[
                ("HIGHPRESS_A", "2"),
                ("HIGHPRESS_B", "2"),
                ("HIGHPRESS_C", ""),
            ],
        );
        assert_eq!(settings.value("a", Some("3"), 0), 3);
        assert_eq!(settings.value("b", None, 0), 2);
        assert_eq!(settings.value("c", None, 0), 1);
        assert_eq!(settings.value("d", None, 0), 0);
        settings.finish().unwrap();
    }

    #[test]
    fn every_mistake_is_listed_where_it_stands() {
        let (mut settings, path) = open(
            "# settings\nlisten: nowhere\ndrain_timeout: 3 parsecs\nlissten: 1\n",
            &[("HIGHPRESS_ADMIN", "8081")],
        );
        let _: Option<SocketAddr> = settings.optional("listen", None);
        let _: Option<SocketAddr> = settings.optional("admin", None);
        let _: Option<u32> = settings.optional("threads", Some("many"));
        let _ = settings.value_with("drain_timeout", None, Duration::ZERO, duration);
        let mistakes = settings.finish().unwrap_err();
        assert_eq!(
            mistakes.lines(),
            [
                format!("{path}:2: listen: `nowhere`: invalid socket address syntax"),
                "HIGHPRESS_ADMIN: `8081`: invalid socket address syntax".to_owned(),
                "--threads: `many`: invalid digit found in string".to_owned(),
                format!(
                    "{path}:3: drain_timeout: `3 parsecs`: not a duration: write it like 250ms, 5s, 2m or 1h"
                ),
                format!(
                    "{path}:4: lissten: unknown key; there is: admin, drain_timeout, listen, threads"
                ),
            ]
        );
    }

    #[test]
    fn a_file_that_is_not_a_flat_mapping_is_refused_with_its_line() {
        for (text, why) in [
            ("listen: [a, b]\n", ":1: listen: expected a single value"),
            ("a: 1\na: 2\n", ":2: a: given twice, first in line 1"),
            ("- a\n", ":1: expected `key: value` lines"),
            ("a: 'x\n", ":"),
        ] {
            let (settings, path) = open(text, &[]);
            let mistakes = settings.finish().unwrap_err();
            assert!(
                mistakes.lines()[0].starts_with(&format!("{path}{why}")),
                "{mistakes}"
            );
        }
    }

    #[test]
    fn a_missing_file_is_a_mistake_and_an_empty_one_is_not() {
        let settings = Settings::open_in(Some(Path::new("/nowhere/counter.yaml")), |_| None);
        assert!(
            settings
                .finish()
                .unwrap_err()
                .to_string()
                .starts_with("/nowhere/counter.yaml: cannot be read: ")
        );
        open("", &[]).0.finish().unwrap();
        open("# nothing\n", &[]).0.finish().unwrap();
    }

    #[test]
    fn a_password_is_not_repeated() {
        let (mut settings, _) = open("", &[]);
        let _: Option<u16> = settings.optional("store", Some("redis://me:secret@host"));
        assert!(
            !settings
                .finish()
                .unwrap_err()
                .to_string()
                .contains("secret")
        );
    }
}
