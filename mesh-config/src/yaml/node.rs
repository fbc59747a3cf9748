//! The tree: scalars, lists and maps, each with its line. Scalars keep their text, and are read as what the
//! key wants: `2` is text in quotes and a number without.

/// A value with the line of its key (of a list item or the whole document: of its first character).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// A scalar that could not be expanded: it has been reported, and nothing more is said about it.
    Broken,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Node,
}

/// A text, and whether it may be read as a number, a truth value or nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes, so by the core schema it may be something else than text.
    pub(crate) plain: bool,
    /// A part of it came from the environment: then it is text if text is wanted, whatever it looks like.
    pub(crate) expanded: bool,
}

impl Scalar {
    /// Nothing at all, or `null`.
    pub(crate) fn is_null(&self) -> bool {
        self.plain
            && !self.expanded
            && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// Without quotes it may be a truth value.
    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.text.as_str() {
            "true" | "True" | "TRUE" if self.plain => Some(true),
            "false" | "False" | "FALSE" if self.plain => Some(false),
            _ => None,
        }
    }

    /// Without quotes it may be a number: an integer in base 10, 8 (`0o17`) or 16 (`0xf`).
    pub(crate) fn integer(&self) -> Option<i64> {
        if !self.plain {
            return None;
        }
        let text = self.text.as_str();
        let signless = |digits: &str, radix| {
            let first_is_digit = digits.starts_with(|c: char| c.is_digit(radix));
            first_is_digit
                .then(|| i64::from_str_radix(digits, radix).ok())
                .flatten()
        };
        match text.get(..2) {
            Some("0o") => signless(&text[2..], 8),
            Some("0x") => signless(&text[2..], 16),
            _ => text.parse().ok(),
        }
    }

    /// Without quotes it may be a number with a fraction.
    pub(crate) fn float(&self) -> Option<f64> {
        let starts_as_number = self
            .text
            .starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        let has_digit = self.text.bytes().any(|b| b.is_ascii_digit());
        let only_number = self
            .text
            .bytes()
            .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        if !self.plain || !starts_as_number || !has_digit || !only_number {
            return None;
        }
        self.text
            .parse()
            .ok()
            .filter(|float: &f64| float.is_finite())
    }

    /// The text, unless without quotes it is something else.
    pub(crate) fn as_text(&self) -> Option<&str> {
        let is_other = self.is_null()
            || self.boolean().is_some()
            || self.float().is_some()
            || self.integer().is_some();
        (!self.plain || self.expanded || !is_other).then_some(&self.text)
    }
}

impl Node {
    /// What it is, for people.
    pub(crate) fn kind_name(&self) -> &'static str {
        match &self.kind {
            Kind::Broken => "not known",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Scalar(scalar) if scalar.as_text().is_some() => "text",
            Kind::Scalar(scalar) if scalar.is_null() => "empty",
            Kind::Scalar(scalar) if scalar.boolean().is_some() => "true or false",
            Kind::Scalar(_) => "a number",
        }
    }

    /// Whether there is no value after the key.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar) if scalar.is_null())
    }

    /// The same value as JSON. Numbers that JSON cannot hold become text.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.kind {
            Kind::Broken => Value::Null,
            Kind::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Kind::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|e| (e.key.clone(), e.value.to_json()))
                    .collect(),
            ),
            Kind::Scalar(scalar) => {
                if let Some(text) = scalar.as_text() {
                    return Value::from(text);
                }
                if scalar.is_null() {
                    return Value::Null;
                }
                let boolean = scalar.boolean().map(Value::from);
                let integer = || scalar.integer().map(Value::from);
                let float = || scalar.float().map(Value::from);
                boolean
                    .or_else(integer)
                    .or_else(float)
                    .unwrap_or_else(|| Value::from(scalar.text.as_str()))
            }
        }
    }
}

/// `path` with a key of the map there: `routes[3].retry`, or `headers["x y"]` where the key is not a word.
pub(crate) fn key_path(path: &str, key: &str) -> String {
    let word = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match (path, word) {
        ("", true) => key.to_owned(),
        (_, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}
