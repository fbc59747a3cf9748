//! Reads values out of the tree. Whatever is wrong is reported with its line and path and yields `None`, so
//! that a section can go on and find the next mistake.

mod scalar;

use crate::report::Report;
use crate::schema::{Section, Support};
use crate::suggest;
use crate::yaml::{Entry, Kind, Node, key_path};

/// A list or map with more than this has been made by a machine that went wrong.
const MAX_ITEMS: usize = 10_000;

/// A value and where it is.
#[derive(Clone)]
pub(crate) struct Value<'n> {
    pub(crate) node: &'n Node,
    pub(crate) path: String,
}

/// The entries of a map whose keys are known.
pub(crate) struct Fields<'n> {
    section: &'static Section,
    entries: &'n [Entry],
    path: String,
    line: u32,
}

impl<'n> Value<'n> {
    pub(crate) fn root(node: &'n Node) -> Self {
        Self {
            node,
            path: String::new(),
        }
    }

    pub(crate) fn line(&self) -> u32 {
        self.node.line
    }

    /// Reports what is wrong with this value, unless something has been reported that made it so.
    pub(crate) fn problem(&self, report: &mut Report, why: impl Into<String>) {
        if self.node.kind != Kind::Broken {
            report.add(self.node.line, &self.path, why.into());
        }
    }

    /// [`Self::problem`], where a value was wanted.
    pub(crate) fn wrong<T>(&self, report: &mut Report, why: impl Into<String>) -> Option<T> {
        self.problem(report, why);
        None
    }

    /// Reports a problem of a key below this value, whether or not it is written.
    pub(crate) fn problem_below(&self, report: &mut Report, path: &str, why: impl Into<String>) {
        let line = self.find(path).map_or(self.node.line, |node| node.line);
        report.add(line, &format!("{}.{path}", self.path), why.into());
    }

    /// Reports that this value is not of the kind that the key takes.
    pub(crate) fn not<T>(&self, report: &mut Report, wanted: &str) -> Option<T> {
        self.wrong(
            report,
            format!("this is {}: {wanted}", self.node.kind_name()),
        )
    }

    /// The node below this one at the end of a path of keys: `transcode.profile`.
    pub(crate) fn find(&self, path: &str) -> Option<&'n Node> {
        path.split('.')
            .try_fold(self.node, |node, key| match &node.kind {
                Kind::Map(entries) => entries
                    .iter()
                    .find(|entry| entry.key == key)
                    .map(|entry| &entry.value),
                _ => None,
            })
    }

    /// The map whose keys `section` lists. Keys that are not in the list, that this version does not have, or
    /// that have no value are reported here.
    pub(crate) fn fields(
        &self,
        section: &'static Section,
        report: &mut Report,
    ) -> Option<Fields<'n>> {
        let Kind::Map(entries) = &self.node.kind else {
            return self.not(
                report,
                &format!(
                    "write a map with the keys {}",
                    suggest::list(section.names())
                ),
            );
        };
        for entry in entries {
            if report.is_full() {
                break;
            }
            let path = key_path(&self.path, &entry.key);
            let why = match section.key(&entry.key).map(|key| key.support) {
                Some(Support::Later) => "not in this version: remove it".to_owned(),
                Some(Support::Now) if entry.value.is_null() => {
                    "there is nothing after it: give a value or remove the key".to_owned()
                }
                Some(Support::Now) => continue,
                None => unknown_key(&entry.key, section),
            };
            report.add(entry.value.line, &path, why);
        }
        Some(Fields {
            section,
            entries,
            path: self.path.clone(),
            line: self.node.line,
        })
    }

    /// The items of a list that must not be empty.
    pub(crate) fn items(&self, report: &mut Report) -> Option<Vec<Value<'n>>> {
        let Kind::List(items) = &self.node.kind else {
            return self.not(report, "write a list, each item with `- ` before it");
        };
        if items.is_empty() {
            return self.wrong(
                report,
                "this list is empty: give at least one item or remove the key",
            );
        }
        if items.len() > MAX_ITEMS {
            return self.wrong(report, format!("this list has more than {MAX_ITEMS} items"));
        }
        let path = |index| format!("{}[{index}]", self.path);
        Some(
            items
                .iter()
                .enumerate()
                .map(|(index, node)| Value {
                    node,
                    path: path(index),
                })
                .collect(),
        )
    }

    /// The entries of a map whose keys are names that people choose. It must not be empty.
    pub(crate) fn entries(&self, report: &mut Report) -> Option<Vec<(&'n str, Value<'n>)>> {
        let Kind::Map(entries) = &self.node.kind else {
            return self.not(report, "write a map from names to values");
        };
        if entries.is_empty() {
            return self.wrong(
                report,
                "this map is empty: give at least one entry or remove the key",
            );
        }
        if entries.len() > MAX_ITEMS {
            return self.wrong(
                report,
                format!("this map has more than {MAX_ITEMS} entries"),
            );
        }
        let value = |entry: &'n Entry| Value {
            node: &entry.value,
            path: key_path(&self.path, &entry.key),
        };
        Some(
            entries
                .iter()
                .map(|entry| (entry.key.as_str(), value(entry)))
                .collect(),
        )
    }
}

impl<'n> Fields<'n> {
    /// The value of a key, if it is there and not empty (which has been reported).
    pub(crate) fn get(&self, key: &'static str) -> Option<Value<'n>> {
        debug_assert!(
            self.section
                .key(key)
                .is_some_and(|key| key.support == Support::Now),
            "`{key}` is read but not listed in section `{}`",
            self.section.path,
        );
        let node = self.entry(key).filter(|node| !node.is_null())?;
        Some(Value {
            node,
            path: key_path(&self.path, key),
        })
    }

    /// The value of a key that has to be there.
    pub(crate) fn require(&self, key: &'static str, report: &mut Report) -> Option<Value<'n>> {
        if self.entry(key).is_none() {
            report.add(
                self.line,
                &key_path(&self.path, key),
                "missing: it has to be given".to_owned(),
            );
        }
        self.get(key)
    }

    /// What `read` makes of a key. `default` if it is not there, or wrong: that has been reported, so nothing will
    /// come of the whole anyway.
    pub(crate) fn or<T>(
        &self,
        key: &'static str,
        default: T,
        report: &mut Report,
        read: impl FnOnce(&Value<'n>, &mut Report) -> Option<T>,
    ) -> T {
        self.get(key)
            .and_then(|value| read(&value, report))
            .unwrap_or(default)
    }

    /// What `read` makes of a key, if it is there.
    pub(crate) fn read<T>(
        &self,
        key: &'static str,
        report: &mut Report,
        read: impl FnOnce(&Value<'n>, &mut Report) -> Option<T>,
    ) -> Option<T> {
        self.get(key).and_then(|value| read(&value, report))
    }

    /// What `read` makes of a key that has to be there.
    pub(crate) fn required<T>(
        &self,
        key: &'static str,
        report: &mut Report,
        read: impl FnOnce(&Value<'n>, &mut Report) -> Option<T>,
    ) -> Option<T> {
        self.require(key, report)
            .and_then(|value| read(&value, report))
    }

    /// Whether no key at all is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the key is written, whatever its value, and whether or not this version has it.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    fn entry(&self, key: &str) -> Option<&'n Node> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }
}

fn unknown_key(key: &str, section: &'static Section) -> String {
    let suggestion = suggest::did_you_mean(key, section.keys.iter().map(|key| key.name));
    let known = suggest::list(section.names());
    format!("unknown key{suggestion} (known here: {known})")
}
