//! A program's configuration file: one flat YAML mapping of settings, each value with its line.
//!
//! Nested values, anchors and repeated keys are refused: mesh.yaml is where structure lives.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use saphyr_parser::{Event, Parser};

/// The values of one file by key; empty when there is no file.
#[derive(Debug, Default)]
pub(super) struct File {
    path: PathBuf,
    values: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    line: usize,
    text: String,
}

impl File {
    pub(super) fn read(path: &Path, mistakes: &mut Vec<String>) -> Self {
        let mut file = Self {
            path: path.to_path_buf(),
            values: BTreeMap::new(),
        };
        // Standard input is read for whoever has a text and no file.
        let text = if path == Path::new("-") {
            std::io::read_to_string(std::io::stdin())
        } else {
            fs::read_to_string(path)
        };
        match text {
            Ok(text) => file.parse(&text, mistakes),
            Err(error) => mistakes.push(format!("{}: cannot be read: {error}", path.display())),
        }
        file
    }

    /// The values of a text that is not in a file.
    pub(super) fn of(name: &str, text: &str, mistakes: &mut Vec<String>) -> Self {
        let mut file = Self {
            path: PathBuf::from(name),
            values: BTreeMap::new(),
        };
        file.parse(text, mistakes);
        file
    }

    /// The value of a key, and `FILE:LINE`.
    pub(super) fn get(&self, key: &str) -> Option<(String, &str)> {
        let entry = self.values.get(key)?;
        Some((self.at(entry.line), &entry.text))
    }

    /// All keys with `FILE:LINE`, in the order of the file.
    pub(super) fn keys(&self) -> impl Iterator<Item = (String, &str)> {
        let mut keys: Vec<_> = self
            .values
            .iter()
            .map(|(key, entry)| (entry.line, key.as_str()))
            .collect();
        keys.sort_unstable();
        keys.into_iter().map(|(line, key)| (self.at(line), key))
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    fn parse(&mut self, text: &str, mistakes: &mut Vec<String>) {
        let mut depth = 0_usize;
        let mut key: Option<String> = None;
        for event in Parser::new_from_str(text) {
            let (event, span) = match event {
                Ok(next) => next,
                Err(error) => {
                    mistakes.push(format!(
                        "{}: {}",
                        self.at(error.marker().line()),
                        error.info()
                    ));
                    return;
                }
            };
            let line = span.start.line();
            match event {
                Event::MappingStart(..) if depth == 0 => depth = 1,
                Event::Scalar(text, ..) if depth == 1 => match key.take() {
                    None => key = Some(text.into_owned()),
                    Some(key) => self.insert(
                        key,
                        Entry {
                            line,
                            text: text.into_owned(),
                        },
                        mistakes,
                    ),
                },
                // An empty file is one empty scalar, or none.
                Event::Scalar(text, ..) if depth == 0 && text.is_empty() => {}
                Event::Scalar(..) if depth > 1 => {}
                Event::MappingStart(..) | Event::SequenceStart(..) if depth >= 1 => {
                    if depth == 1 {
                        let key = key.take().unwrap_or_default();
                        mistakes.push(format!("{}: {key}: expected a single value", self.at(line)));
                    }
                    depth += 1;
                }
                Event::MappingEnd | Event::SequenceEnd => depth = depth.saturating_sub(1),
                Event::Scalar(..) | Event::SequenceStart(..) | Event::Alias(_) => {
                    mistakes.push(format!("{}: expected `key: value` lines", self.at(line)));
                    return;
                }
                _ => {}
            }
        }
    }

    fn insert(&mut self, key: String, entry: Entry, mistakes: &mut Vec<String>) {
        if let Some(first) = self.values.get(&key) {
            let at = self.at(entry.line);
            mistakes.push(format!(
                "{at}: {key}: given twice, first in line {}",
                first.line
            ));
            return;
        }
        self.values.insert(key, entry);
    }
}
