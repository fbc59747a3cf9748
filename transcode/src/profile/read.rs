//! A profile's value, read with all mistakes noted where they are.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::ProfileError;
use crate::checks::Demand;

/// A value, its place, and where mistakes go.
pub(super) struct Reader<'r> {
    at: String,
    value: &'r Value,
    faults: &'r RefCell<Vec<ProfileError>>,
}

impl<'r> Reader<'r> {
    pub(super) fn new(
        at: &str,
        value: &'r Value,
        faults: &'r RefCell<Vec<ProfileError>>,
    ) -> Reader<'r> {
        Reader {
            at: at.to_owned(),
            value,
            faults,
        }
    }

    /// Its place.
    pub(super) fn at(&self) -> &str {
        &self.at
    }

    pub(super) fn value(&self) -> &'r Value {
        self.value
    }

    /// Notes a mistake here.
    pub(super) fn fault(&self, why: impl Into<String>) {
        self.faults.borrow_mut().push(ProfileError {
            path: self.at.clone(),
            why: why.into(),
        });
    }

    /// A reader of a part of this value.
    pub(super) fn below(&self, step: &str, value: &'r Value) -> Reader<'r> {
        let dot = if step.starts_with('[') { "" } else { "." };
        Reader {
            at: format!("{}{dot}{step}", self.at),
            value,
            faults: self.faults,
        }
    }

    fn object(&self) -> Option<&'r Map<String, Value>> {
        let object = self.value.as_object();
        if object.is_none() {
            self.fault("write a map here");
        }
        object
    }

    /// Refuses every key but these.
    pub(super) fn keys(&self, known: &[&str]) {
        let Some(object) = self.object() else { return };
        for key in object.keys().filter(|key| !known.contains(&key.as_str())) {
            let below = self.below(key, self.value);
            below.fault(format!("unknown key; there are {}", known.join(", ")));
        }
    }

    /// Reads a key if it is there.
    pub(super) fn get<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Reader<'r>) -> Option<T>,
    ) -> Option<T> {
        let value = self
            .value
            .as_object()?
            .get(key)
            .filter(|value| !value.is_null())?;
        read(&self.below(key, value))
    }

    /// Reads a key that must be there.
    pub(super) fn need<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Reader<'r>) -> Option<T>,
    ) -> Option<T> {
        let object = self.value.as_object()?;
        match object.get(key) {
            Some(value) => read(&self.below(key, value)),
            None => {
                self.fault(format!("`{key}` is missing"));
                None
            }
        }
    }

    /// Reads a key's list, element by element.
    pub(super) fn list<T>(
        &self,
        key: &str,
        mut read: impl FnMut(&Reader<'r>) -> Option<T>,
    ) -> Vec<T> {
        let elements = self.get(key, |reader| {
            let Some(elements) = reader.value.as_array() else {
                reader.fault("write a list here");
                return None;
            };
            let indexed = elements.iter().enumerate();
            Some(
                indexed
                    .filter_map(|(index, value)| read(&reader.below(&format!("[{index}]"), value)))
                    .collect(),
            )
        });
        elements.unwrap_or_default()
    }

    /// Reads a key that holds one value or a list of them.
    pub(super) fn several<T>(
        &self,
        key: &str,
        mut read: impl FnMut(&Reader<'r>) -> Option<T>,
    ) -> Vec<T> {
        let list = self.value.get(key).is_some_and(Value::is_array);
        if list {
            let read = self.list(key, read);
            if self
                .value
                .get(key)
                .is_some_and(|list| list == &Value::Array(Vec::new()))
            {
                self.below(key, self.value)
                    .fault("an empty list fits nothing; leave the key out");
            }
            return read;
        }
        self.get(key, &mut read).into_iter().collect()
    }

    /// Reads every member of a map.
    pub(super) fn members<T>(
        &self,
        mut read: impl FnMut(&Reader<'r>) -> Option<T>,
    ) -> Vec<(String, T)> {
        let members = self.object().into_iter().flatten();
        members
            .filter_map(|(key, value)| Some((key.clone(), read(&self.below(key, value))?)))
            .collect()
    }

    pub(super) fn text(&self) -> Option<String> {
        let text = self.value.as_str().map(str::to_owned);
        if text.is_none() {
            self.fault("write a text here");
        }
        text
    }

    pub(super) fn flag(&self) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.fault("write true or false here");
        }
        flag
    }

    /// A text that can be the value of an HTTP header.
    pub(super) fn header(&self) -> Option<String> {
        let text = self.text()?;
        if text.is_empty() || !text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            self.fault("a header's value is visible ASCII");
            return None;
        }
        Some(text)
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        self.get(key, |reader| {
            let word = reader.value.as_str().unwrap_or_default();
            let found = words
                .iter()
                .find(|(known, _)| *known == word)
                .map(|(_, value)| *value);
            if found.is_none() {
                let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
                reader.fault(format!("write one of {}", known.join(", ")));
            }
            found
        })
    }

    /// The HTTP status of a failure.
    pub(super) fn failure_status(&self) -> Option<u16> {
        let status = self
            .value
            .as_u64()
            .and_then(|status| u16::try_from(status).ok());
        let status = status.filter(|status| (400..=599).contains(status));
        if status.is_none() {
            self.fault("write an HTTP status from 400 to 599");
        }
        status
    }

    /// `1..1000`, or a list of words.
    pub(super) fn demand(&self) -> Option<Demand> {
        match self.value {
            Value::String(text) => {
                let ends = text.split_once("..");
                let range = ends.and_then(|(low, high)| {
                    let low: i64 = low.trim().parse().ok()?;
                    let high: i64 = high.trim().parse().ok()?;
                    (low <= high).then_some(low..=high)
                });
                if range.is_none() {
                    self.fault("write a range such as `1..1000`, its ends included");
                }
                range.map(Demand::Range)
            }
            Value::Array(words) if !words.is_empty() => {
                let mut texts = Vec::new();
                for (index, word) in words.iter().enumerate() {
                    texts.extend(self.below(&format!("[{index}]"), word).text());
                }
                Some(Demand::OneOf(texts))
            }
            _ => {
                self.fault("write a range such as `1..1000`, or a list of words");
                None
            }
        }
    }
}
