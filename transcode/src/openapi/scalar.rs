//! Single values: as text in paths and queries, as JSON in requests, as JSON in answers.

use serde_json::{Value, json};

use super::message::Direction;
use crate::options::{Dialect, Enums, Int64, JsonOptions};
use crate::schema::{EnumId, Field, Kind, MessageId, Schema, WellKnown};

/// Both alphabets, with or without padding.
const ANY_BASE64: &str = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}(==)?|[A-Za-z0-9+/]{3}=?)?$|^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-]{2}(==)?|[A-Za-z0-9_-]{3}=?)?$";
/// What is written.
const BASE64: &str = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$";
const NOT_FINITE: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// A value as it stands in a path or a query.
pub(super) fn text(schema: &Schema, field: &Field) -> Value {
    match field.kind {
        Kind::Message(id) => {
            let message = schema.message_info(id);
            match (message.well_known, message.fields.first()) {
                (Some(WellKnown::Wrapper), Some(inner)) => text(schema, inner),
                (Some(known), _) => well_known(known, Direction::Request),
                (None, _) => json!({}),
            }
        }
        Kind::Enum(id) => {
            let (names, numbers) = (names(schema, id), numbers(schema, id));
            json!({ "anyOf": [names, numbers] })
        }
        Kind::Double | Kind::Float => {
            json!({ "anyOf": [number(field.kind), { "type": "string", "enum": NOT_FINITE }] })
        }
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::String => json!({ "type": "string" }),
        Kind::Bytes => bytes(Direction::Request),
        whole => integer(whole),
    }
}

/// A value in JSON. Messages are not values.
pub(super) fn json(
    schema: &Schema,
    kind: Kind,
    options: JsonOptions,
    direction: Direction,
) -> Value {
    let request = direction == Direction::Request;
    let lenient = request && options.dialect == Dialect::Proto3;
    match kind {
        // What is read as any other enum is written as `null` alone.
        Kind::Enum(id) if schema.enum_info(id).null_value => match request {
            true => {
                json!({ "anyOf": [{ "type": "null" }, names(schema, id), numbers(schema, id)] })
            }
            false => json!({ "type": "null" }),
        },
        Kind::Enum(id) => match options.enums {
            Enums::Number if !request => numbers(schema, id),
            _ => json!({ "anyOf": [names(schema, id), numbers(schema, id)] }),
        },
        Kind::Double | Kind::Float if request && !lenient => number(kind),
        Kind::Double | Kind::Float => {
            json!({ "anyOf": [number(kind), { "type": "string", "enum": NOT_FINITE }] })
        }
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::String => json!({ "type": "string" }),
        Kind::Bytes => bytes(direction),
        Kind::Message(_) => json!({}),
        whole if lenient => {
            let mut of = integer(whole);
            of["type"] = json!(["integer", "string"]);
            of["pattern"] = digits(whole).into();
            of
        }
        whole if is_long(whole) && options.int64 == Int64::String && !request => {
            let format = if is_signed(whole) { "int64" } else { "uint64" };
            json!({ "type": "string", "format": format, "pattern": "^-?[0-9]+$" })
        }
        whole => integer(whole),
    }
}

/// A key of a map, as a name of an object.
pub(super) fn key(kind: Kind) -> Option<Value> {
    match kind {
        Kind::String => None,
        Kind::Bool => Some(json!({ "enum": ["true", "false"] })),
        whole => Some(json!({ "pattern": digits(whole) })),
    }
}

/// Whether values of a message are one text, so that they can stand in a query.
pub(super) fn has_text(schema: &Schema, id: MessageId) -> bool {
    use WellKnown::{Duration, FieldMask, Timestamp, Wrapper};
    let known = schema.message_info(id).well_known;
    matches!(known, Some(Duration | FieldMask | Timestamp | Wrapper))
}

/// A message with a JSON form of its own that is no object of fields.
pub(super) fn well_known(known: WellKnown, direction: Direction) -> Value {
    match known {
        WellKnown::Timestamp => {
            json!({ "type": "string", "format": "date-time", "examples": ["2024-01-31T12:00:00.5Z"] })
        }
        WellKnown::Duration => {
            json!({ "type": "string", "pattern": "^-?[0-9]{1,11}(\\.[0-9]{1,9})?s$", "examples": ["1.5s"] })
        }
        WellKnown::FieldMask => {
            json!({ "type": "string", "pattern": "^([a-z][A-Za-z0-9.]*(,[a-z][A-Za-z0-9.]*)*)?$" })
        }
        WellKnown::Struct => json!({ "type": "object" }),
        WellKnown::ListValue => json!({ "type": "array" }),
        WellKnown::Empty if direction == Direction::Request => {
            json!({ "type": "object", "maxProperties": 0 })
        }
        WellKnown::Empty => json!({ "type": "object" }),
        WellKnown::Any => {
            json!({ "type": "object", "properties": { "@type": { "type": "string" } }, "required": ["@type"] })
        }
        WellKnown::Value | WellKnown::Wrapper => json!({}),
    }
}

fn bytes(direction: Direction) -> Value {
    let pattern = match direction {
        Direction::Request => ANY_BASE64,
        Direction::Response => BASE64,
    };
    json!({ "type": "string", "contentEncoding": "base64", "pattern": pattern })
}

fn number(kind: Kind) -> Value {
    match kind {
        Kind::Float => {
            json!({ "type": "number", "format": "float", "minimum": -f64::from(f32::MAX), "maximum": f32::MAX })
        }
        _ => json!({ "type": "number", "format": "double" }),
    }
}

fn numbers(schema: &Schema, id: EnumId) -> Value {
    let values = &schema.enum_info(id).values;
    match schema.enum_info(id).closed {
        true => {
            let numbers: Vec<i32> = values.iter().map(|value| value.number).collect();
            json!({ "type": "integer", "enum": numbers })
        }
        // A value that has no name yet.
        false => integer(Kind::Int32),
    }
}

fn names(schema: &Schema, id: EnumId) -> Value {
    let values = &schema.enum_info(id).values;
    let names: Vec<&str> = values.iter().map(|value| value.name.as_str()).collect();
    let comments = values.iter().filter(|value| !value.comment.is_empty());
    let comments = comments.map(|value| format!("- `{}`: {}", value.name, value.comment));
    let comments: Vec<String> = comments.collect();
    let of = json!({ "type": "string", "enum": names });
    super::described(of, &comments.join("\n"))
}

fn integer(kind: Kind) -> Value {
    let (format, least, most): (_, Value, Value) = match (is_long(kind), is_signed(kind)) {
        (false, true) => ("int32", i32::MIN.into(), i32::MAX.into()),
        (false, false) => ("uint32", 0.into(), u32::MAX.into()),
        (true, true) => ("int64", i64::MIN.into(), i64::MAX.into()),
        (true, false) => ("uint64", 0.into(), u64::MAX.into()),
    };
    json!({ "type": "integer", "format": format, "minimum": least, "maximum": most })
}

/// Texts that are surely within the bounds.
fn digits(kind: Kind) -> &'static str {
    match (is_long(kind), is_signed(kind)) {
        (false, true) => "^(0|-?[1-9][0-9]{0,8})$",
        (false, false) => "^(0|[1-9][0-9]{0,8})$",
        (true, true) => "^(0|-?[1-9][0-9]{0,17})$",
        (true, false) => "^(0|[1-9][0-9]{0,18})$",
    }
}

fn is_long(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64
    )
}

fn is_signed(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64
    )
}
