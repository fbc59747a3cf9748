//! Bodies with holes: of answers (to a shape for the codec) and of failures (to a list of parts).

use serde_json::{Map, Value};

use super::read::Reader;
use crate::errors::{Hole, Part};
use crate::shape::ShapeNode;

/// A text of a body: itself, or a hole's name.
enum Text<'t> {
    Literal(&'t str),
    Hole(&'t str),
}

fn text(text: &str) -> Text<'_> {
    match text.strip_prefix('$') {
        Some(rest) if rest.starts_with('$') => Text::Literal(rest),
        Some(name) => Text::Hole(name),
        None => Text::Literal(text),
    }
}

/// A key of a body's map: itself, or a directive such as `$each`.
fn key<'k>(key: &'k str, reader: &Reader<'_>) -> Option<&'k str> {
    match text(key) {
        Text::Literal(key) => Some(key),
        Text::Hole(_) => {
            reader.fault(format!(
                "`{key}` is no directive; there are $each with $as, and $count, alone in their map; for a key that starts with `$` write `$${key}`",
            ));
            None
        }
    }
}

/// The body of an answer.
pub(super) fn shape(reader: &Reader<'_>) -> ShapeNode {
    match reader.value() {
        Value::String(value) => match text(value) {
            Text::Literal(value) => ShapeNode::Json(Value::from(value).to_string()),
            Text::Hole("") => ShapeNode::Whole,
            Text::Hole(name) => ShapeNode::Field(name.to_owned()),
        },
        Value::Object(object) if object.contains_key("$each") => each(reader, object),
        Value::Object(object) if object.contains_key("$count") => {
            reader.keys(&["$count"]);
            ShapeNode::Count(directive(reader, "$count"))
        }
        Value::Object(object) => {
            let mut members = Vec::new();
            for (name, value) in object {
                let node = shape(&reader.below(name, value));
                members.extend(key(name, reader).map(|name| (name.to_owned(), node)));
            }
            ShapeNode::Object(members)
        }
        Value::Array(elements) => {
            let mut literals = Vec::new();
            for (index, value) in elements.iter().enumerate() {
                let below = reader.below(&format!("[{index}]"), value);
                if let ShapeNode::Json(literal) = flat(shape(&below)) {
                    literals.push(literal);
                } else {
                    below.fault("a written list holds no `$`; for the elements of a field write {$each: FIELD}");
                }
            }
            ShapeNode::Json(format!("[{}]", literals.join(",")))
        }
        literal => ShapeNode::Json(literal.to_string()),
    }
}

/// A map of literals only is a literal itself.
fn flat(node: ShapeNode) -> ShapeNode {
    let ShapeNode::Object(members) = node else {
        return node;
    };
    let mut text = String::from("{");
    for (name, member) in &members {
        let ShapeNode::Json(value) = flat(member.clone()) else {
            return ShapeNode::Object(members);
        };
        let comma = if text.len() > 1 { "," } else { "" };
        text.push_str(&format!("{comma}{}:{value}", Value::from(name.as_str())));
    }
    ShapeNode::Json(text + "}")
}

fn each(reader: &Reader<'_>, object: &Map<String, Value>) -> ShapeNode {
    reader.keys(&["$each", "$as"]);
    let field = directive(reader, "$each");
    let inner = match object.get("$as") {
        Some(value) => shape(&reader.below("$as", value)),
        None => ShapeNode::Whole,
    };
    ShapeNode::Each(field, Box::new(inner))
}

/// A directive's field, with or without its `$`.
fn directive(reader: &Reader<'_>, name: &str) -> String {
    let field = reader.get(name, Reader::text).unwrap_or_default();
    field.strip_prefix('$').unwrap_or(&field).to_owned()
}

/// The body of a failure.
pub(super) fn parts(reader: &Reader<'_>) -> Vec<Part> {
    let mut writer = Parts::default();
    writer.value(reader);
    writer.flush();
    writer.parts
}

/// Parts, neighbouring literals joined.
#[derive(Default)]
struct Parts {
    parts: Vec<Part>,
    literal: String,
}

impl Parts {
    fn flush(&mut self) {
        if !self.literal.is_empty() {
            let literal = std::mem::take(&mut self.literal);
            self.parts.push(Part::Text(literal.into_boxed_str()));
        }
    }

    fn value(&mut self, reader: &Reader<'_>) {
        match reader.value() {
            Value::String(value) => match text(value) {
                Text::Literal(value) => self.literal.push_str(&Value::from(value).to_string()),
                Text::Hole(name) => self.hole(name, reader),
            },
            Value::Object(object) => {
                self.literal.push('{');
                let mut comma = "";
                for (name, value) in object {
                    let Some(name_text) = key(name, reader) else {
                        continue;
                    };
                    self.literal
                        .push_str(&format!("{comma}{}:", Value::from(name_text)));
                    self.value(&reader.below(name, value));
                    comma = ",";
                }
                self.literal.push('}');
            }
            Value::Array(elements) => {
                self.literal.push('[');
                for (index, value) in elements.iter().enumerate() {
                    self.literal.push_str(if index > 0 { "," } else { "" });
                    self.value(&reader.below(&format!("[{index}]"), value));
                }
                self.literal.push(']');
            }
            literal => self.literal.push_str(&literal.to_string()),
        }
    }

    fn hole(&mut self, name: &str, reader: &Reader<'_>) {
        let Some((_, hole)) = Hole::NAMES.iter().find(|(known, _)| *known == name) else {
            let known: Vec<String> = Hole::NAMES
                .iter()
                .map(|(known, _)| format!("${known}"))
                .collect();
            reader.fault(format!(
                "`${name}` is no value of a failure; there are {}",
                known.join(", ")
            ));
            return;
        };
        self.flush();
        self.parts.push(Part::Hole(*hole));
    }
}
