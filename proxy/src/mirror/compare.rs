//! Whether two answers say the same: their status, and their bodies as JSON values, so that key order, white
//! space and the way a number is written do not matter. What may differ (timestamps, say) is named by path.
//!
//! Bodies that are not JSON on both sides are compared byte by byte. Refused: an opinion about headers.

use std::fmt::Write;

use serde_json::{Map, Number, Value};

/// More differences of one answer than this are counted, not listed.
const LISTED: usize = 8;
/// Characters of a value that are shown.
const SHOWN: usize = 80;

/// How answers are compared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Comparison {
    ignored: Vec<Box<[Box<str>]>>,
}

/// An answer, as far as it is compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

/// One place where answers differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// `status`, `body`, or the path of a value: `data.results.0.current_value`.
    pub(crate) path: String,
    /// What the caller got; shortened.
    pub(crate) answered: String,
    /// What the mirror said; shortened.
    pub(crate) mirrored: String,
}

/// The differences that were found so far, and where the walk is.
struct Walk<'a> {
    ignored: &'a [Box<[Box<str>]>],
    path: Vec<String>,
    found: Vec<Difference>,
}

// === impl Comparison ===

impl Comparison {
    /// Ignores what stands at these paths and below them: keys and list indices separated by dots, `*` for any.
    pub(crate) fn new(ignored: &[String]) -> Self {
        let path = |path: &String| path.split('.').map(Box::from).collect();
        Self {
            ignored: ignored.iter().map(path).collect(),
        }
    }

    /// Where two answers differ; empty if they say the same.
    pub(crate) fn differences(&self, answered: Seen<'_>, mirrored: Seen<'_>) -> Vec<Difference> {
        let mut walk = Walk {
            ignored: &self.ignored,
            path: Vec::new(),
            found: Vec::new(),
        };
        if answered.status != mirrored.status {
            walk.at("status", |walk| {
                walk.differ(&answered.status.to_string(), &mirrored.status.to_string());
            });
        }
        let parse = |seen: Seen<'_>| serde_json::from_slice::<Value>(seen.body).ok();
        match (parse(answered), parse(mirrored)) {
            (Some(answered), Some(mirrored)) => walk.values(&answered, &mirrored),
            _ if answered.body == mirrored.body => {}
            _ => walk.at("body", |walk| {
                let text = |seen: Seen<'_>| String::from_utf8_lossy(seen.body).into_owned();
                walk.differ(&text(answered), &text(mirrored));
            }),
        }
        walk.found
    }
}

// === impl Walk ===

impl Walk<'_> {
    fn at(&mut self, key: &str, look: impl FnOnce(&mut Self)) {
        if self.found.len() == LISTED {
            return;
        }
        self.path.push(key.to_owned());
        if !self.is_ignored() {
            look(self);
        }
        self.path.pop();
    }

    fn is_ignored(&self) -> bool {
        self.ignored.iter().any(|ignored| {
            let mut pairs = ignored.iter().zip(&self.path);
            ignored.len() == self.path.len()
                && pairs.all(|(wanted, key)| **wanted == *"*" || **wanted == **key)
        })
    }

    fn differ(&mut self, answered: &str, mirrored: &str) {
        self.found.push(Difference {
            path: self.path.join("."),
            answered: shortened(answered),
            mirrored: shortened(mirrored),
        });
    }

    fn values(&mut self, answered: &Value, mirrored: &Value) {
        match (answered, mirrored) {
            (Value::Object(ours), Value::Object(theirs)) => self.objects(ours, theirs),
            (Value::Array(ours), Value::Array(theirs)) => self.lists(ours, theirs),
            (Value::Number(ours), Value::Number(theirs)) if same_number(ours, theirs) => {}
            (ours, theirs) if ours == theirs => {}
            (ours, theirs) => self.differ(&ours.to_string(), &theirs.to_string()),
        }
    }

    fn objects(&mut self, ours: &Map<String, Value>, theirs: &Map<String, Value>) {
        for (key, our) in ours {
            self.at(key, |walk| match theirs.get(key) {
                Some(their) => walk.values(our, their),
                None => walk.differ(&our.to_string(), "(absent)"),
            });
        }
        for (key, their) in theirs.iter().filter(|(key, _)| !ours.contains_key(*key)) {
            self.at(key, |walk| walk.differ("(absent)", &their.to_string()));
        }
    }

    fn lists(&mut self, ours: &[Value], theirs: &[Value]) {
        for (index, (our, their)) in ours.iter().zip(theirs).enumerate() {
            self.at(&index.to_string(), |walk| walk.values(our, their));
        }
        if ours.len() != theirs.len() {
            let text = |list: &[Value]| format!("{} items", list.len());
            self.at("length", |walk| walk.differ(&text(ours), &text(theirs)));
        }
    }
}

/// Whole numbers exactly, others as the doubles that JSON readers make of them.
fn same_number(ours: &Number, theirs: &Number) -> bool {
    match (ours.as_i128(), theirs.as_i128()) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => ours.as_f64() == theirs.as_f64(),
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN).collect();
    let more = text.chars().count().saturating_sub(SHOWN);
    if more > 0 {
        // Writing to a String cannot fail.
        let _ = write!(short, "... ({more} more)");
    }
    short
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn differences(ignored: &[&str], answered: &str, mirrored: &str) -> Vec<String> {
        let ignored: Vec<String> = ignored.iter().map(|path| (*path).to_owned()).collect();
        let seen = |body| Seen { status: 200, body };
        Comparison::new(&ignored)
            .differences(seen(answered.as_bytes()), seen(mirrored.as_bytes()))
            .into_iter()
            .map(|difference| {
                format!(
                    "{}: {} / {}",
                    difference.path, difference.answered, difference.mirrored
                )
            })
            .collect()
    }

    #[test]
    fn order_space_and_the_writing_of_numbers_do_not_matter() {
        let same = differences(
            &[],
            r#"{"a":1,"b":[1.0,2]}"#,
            "{ \"b\": [1, 2e0], \"a\": 1 }",
        );
        assert_eq!(same, [""; 0]);
        let beyond_doubles = differences(&[], "9007199254740993", "9007199254740992");
        assert_eq!(beyond_doubles, [": 9007199254740993 / 9007199254740992"]);
    }

    #[test]
    fn every_kind_of_difference_has_its_path() {
        let found = differences(
            &[],
            r#"{"data":{"results":[{"value":1},{"value":2}],"old":true}}"#,
            r#"{"data":{"results":[{"value":1},{"value":"2"},{}],"new":null}}"#,
        );
        assert_eq!(
            found,
            [
                "data.results.1.value: 2 / \"2\"",
                "data.results.length: 2 items / 3 items",
                "data.old: true / (absent)",
                "data.new: (absent) / null"
            ]
        );
    }

    #[test]
    fn what_is_ignored_is_ignored_with_all_below_it() {
        let ours = r#"{"data":{"timestamp":1,"results":[{"at":{"s":1},"v":1}]}}"#;
        let theirs = r#"{"data":{"timestamp":2,"results":[{"at":{"s":2},"v":1}]}}"#;
        assert_eq!(
            differences(&["data.timestamp", "data.results.*.at"], ours, theirs),
            [""; 0]
        );
        assert_eq!(
            differences(&["timestamp", "data.results.1.at"], ours, theirs).len(),
            2
        );
    }

    #[test]
    fn a_status_differs_even_if_bodies_do_not() {
        let found = Comparison::default().differences(
            Seen {
                status: 200,
                body: b"x",
            },
            Seen {
                status: 404,
                body: b"x",
            },
        );
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].path.as_str(), found[0].mirrored.as_str()),
            ("status", "404")
        );
    }

    #[test]
    fn bodies_that_are_not_json_are_compared_as_they_are() {
        assert_eq!(differences(&[], "plain", "plain"), [""; 0]);
        assert_eq!(differences(&[], "plain", "plane"), ["body: plain / plane"]);
        assert_eq!(differences(&[], "{}", "<html>"), ["body: {} / <html>"]);
    }

    #[test]
    fn long_answers_are_shortened_and_many_differences_cut() {
        let long = format!("\"{}\"", "é".repeat(500));
        let found = differences(&[], &long, "0");
        assert!(found[0].chars().count() < 2 * SHOWN, "{found:?}");
        let many: Vec<i32> = (0..100).collect();
        let other: Vec<i32> = (100..200).collect();
        assert_eq!(
            differences(&[], &format!("{many:?}"), &format!("{other:?}")).len(),
            LISTED
        );
    }

    proptest! {
        #[test]
        fn anything_is_the_same_as_itself(body: Vec<u8>, status in 200u16..600) {
            let seen = Seen { status, body: &body };
            prop_assert!(Comparison::default().differences(seen, seen).is_empty());
        }

        #[test]
        fn a_changed_leaf_is_found(keys in prop::collection::vec("[a-z]{1,5}", 1..6), ours: i64, theirs: i64) {
            let nest = |leaf: i64| keys.iter().rev().fold(leaf.to_string(), |inner, key| format!("{{\"{key}\":{inner}}}"));
            let found = differences(&[], &nest(ours), &nest(theirs));
            prop_assert_eq!(found.len(), usize::from(ours != theirs));
            prop_assert_eq!(differences(&[&keys.join(".")], &nest(ours), &nest(theirs)).len(), 0);
        }
    }
}
