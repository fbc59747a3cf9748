//! Values of an entry, by the paths at which they stand.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

/// What is found while entries are read.
#[derive(Debug, Default)]
pub(in crate::entries) struct Finds {
    pub(in crate::entries) problems: Vec<String>,
    pub(in crate::entries) unsupported: BTreeSet<String>,
}

/// A value and where it stands: `service-router counter: Routes[0].Match`.
#[derive(Debug, Clone)]
pub(super) struct At<'v> {
    value: &'v Value,
    path: String,
}

/// What every entry has, whatever it is about.
const OF_ALL: [&str; 9] = [
    "Kind",
    "Name",
    "Meta",
    "CreateIndex",
    "ModifyIndex",
    "Namespace",
    "Partition",
    "Hash",
    "Status",
];

impl<'v> At<'v> {
    pub(super) fn entry(value: &'v Value, name: String) -> Self {
        Self { value, path: name }
    }

    /// What stands at a key, if it says anything.
    pub(super) fn get(&self, key: &str) -> Option<At<'v>> {
        let value = self.value.get(key).filter(|value| says(value))?;
        let between = if self.path.contains(": ") { "." } else { ": " };
        Some(At {
            value,
            path: format!("{}{between}{key}", self.path),
        })
    }

    pub(super) fn text(&self, key: &str) -> Option<&'v str> {
        self.value
            .get(key)?
            .as_str()
            .filter(|text| !text.is_empty())
    }

    pub(super) fn is(&self, key: &str) -> bool {
        self.value.get(key) == Some(&Value::Bool(true))
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.value.get(key)?.as_f64()
    }

    pub(super) fn as_str(&self) -> Option<&'v str> {
        self.value.as_str()
    }

    pub(super) fn as_u64(&self) -> Option<u64> {
        self.value.as_u64()
    }

    /// The items of a list at a key.
    pub(super) fn items(&self, key: &str) -> Vec<At<'v>> {
        let Some(list) = self.get(key) else {
            return Vec::new();
        };
        let items = list.value.as_array().into_iter().flatten().enumerate();
        items
            .map(|(index, value)| At {
                value,
                path: format!("{}[{index}]", list.path),
            })
            .collect()
    }

    /// The entries of a map at a key.
    pub(super) fn entries(&self, key: &str) -> Vec<(&'v str, At<'v>)> {
        let Some(map) = self.get(key) else {
            return Vec::new();
        };
        let entries = map.value.as_object().into_iter().flatten();
        entries
            .map(|(name, value)| {
                let path = format!("{}[{name}]", map.path);
                (name.as_str(), At { value, path })
            })
            .collect()
    }

    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        let items = self.items(key);
        let texts = items.iter().filter_map(At::as_str);
        texts.map(str::to_owned).collect()
    }

    /// A time, as Go writes it.
    pub(super) fn time(&self, key: &str, finds: &mut Finds) -> Option<Duration> {
        let at = self.get(key)?;
        let found = match at.value {
            Value::String(text) => duration(text),
            value => value.as_u64().map(Duration::from_nanos),
        };
        if found.is_none() {
            at.problem(finds, "it is not a duration");
        }
        found.filter(|found| !found.is_zero())
    }

    pub(super) fn problem(&self, finds: &mut Finds, why: &str) {
        finds.problems.push(format!("{}: {why}", self.path));
    }

    pub(super) fn unsupported(&self, finds: &mut Finds) {
        finds.unsupported.insert(self.path.clone());
    }

    /// Tells of every key that says something and is not among these.
    pub(super) fn known(&self, keys: &[&str], finds: &mut Finds) {
        let Some(map) = self.value.as_object() else {
            self.problem(finds, "it is not a map");
            return;
        };
        let entry = !self.path.contains(": ");
        for key in map.keys() {
            let common = entry && OF_ALL.contains(&key.as_str());
            if !keys.contains(&key.as_str())
                && !common
                && let Some(at) = self.get(key)
            {
                at.unsupported(finds);
            }
        }
    }
}

/// Consul writes keys that nobody has set as empty ones.
fn says(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty() && text != "0s",
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => map.values().any(says),
    }
}

/// A duration of Go: `1m30s`, `1.5h`, `250ms`.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("h", 3600.0),
        ("m", 60.0),
        ("s", 1.0),
    ];
    let mut rest = text.trim();
    let mut whole = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (unit, seconds) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        whole += number * seconds;
        rest = &rest[unit.len()..];
    }
    Duration::try_from_secs_f64(whole).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, millis) in [
            ("15s", 15_000),
            ("1m30s", 90_000),
            ("250ms", 250),
            ("1.5h", 5_400_000),
        ] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "5", "s", "-1s", "1x", "1e9s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
