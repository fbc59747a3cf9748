//! Small rules of the language: names that protoc makes, definitions that no compiler lets through.

use super::{Cardinality, Field, Kind, Message, SchemaError, WellKnown};
use crate::descriptor::DescriptorProto;

/// Oneofs with their declared index; those that stand for a proto3 `optional` are left out.
pub(super) fn real_oneofs(message: &DescriptorProto) -> Vec<(usize, String)> {
    let synthetic = |index: usize| {
        message
            .field
            .iter()
            .any(|field| field.proto3_optional && field.oneof_index == i32::try_from(index).ok())
    };
    let oneofs = message
        .oneof_decl
        .iter()
        .enumerate()
        .filter(|(index, _)| !synthetic(*index));
    oneofs
        .map(|(index, oneof)| (index, oneof.name.clone()))
        .collect()
}

pub(super) fn check_numbers(message: &str, fields: &[Field]) -> Result<(), SchemaError> {
    let mut numbers: Vec<u32> = fields.iter().map(|field| field.number).collect();
    numbers.sort_unstable();
    if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(SchemaError::Invalid {
            name: message.to_owned(),
            why: "two fields have the same number",
        });
    }
    Ok(())
}

pub(super) fn check_map_entry(entry: &Message) -> Result<(), SchemaError> {
    let [key, value] = entry.fields.as_slice() else {
        return Err(SchemaError::Invalid {
            name: entry.full_name.clone(),
            why: "a map entry has a key and a value",
        });
    };
    let bad_key = matches!(
        key.kind,
        Kind::Double | Kind::Float | Kind::Bytes | Kind::Enum(_) | Kind::Message(_)
    );
    let single = key.cardinality == Cardinality::Single && value.cardinality == Cardinality::Single;
    if bad_key || !single || key.number != 1 || value.number != 2 {
        return Err(SchemaError::Invalid {
            name: entry.full_name.clone(),
            why: "not a map's key and value",
        });
    }
    Ok(())
}

/// A wrapper that is not one value in field 1 is somebody's own message under Google's name.
pub(super) fn check_wrapper(message: &mut Message) {
    let plain = |field: &Field| {
        field.number == 1
            && field.cardinality == Cardinality::Single
            && !matches!(field.kind, Kind::Enum(_) | Kind::Message(_))
    };
    if message.well_known == Some(WellKnown::Wrapper)
        && !matches!(message.fields.as_slice(), [field] if plain(field))
    {
        message.well_known = None;
    }
}

pub(super) fn well_known(full_name: &str) -> Option<WellKnown> {
    Some(match full_name.strip_prefix("google.protobuf.")? {
        "Any" => WellKnown::Any,
        "Duration" => WellKnown::Duration,
        "Empty" => WellKnown::Empty,
        "FieldMask" => WellKnown::FieldMask,
        "ListValue" => WellKnown::ListValue,
        "Struct" => WellKnown::Struct,
        "Timestamp" => WellKnown::Timestamp,
        "Value" => WellKnown::Value,
        "BoolValue" | "BytesValue" | "DoubleValue" | "FloatValue" | "Int32Value" | "Int64Value"
        | "StringValue" | "UInt32Value" | "UInt64Value" => WellKnown::Wrapper,
        _ => return None,
    })
}

/// The JSON name that protoc gives a field: underscores go, the letter after one is upper case.
pub(super) fn camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for letter in name.chars() {
        match letter {
            '_' => upper = true,
            letter if upper => {
                camel.push(letter.to_ascii_uppercase());
                upper = false;
            }
            letter => camel.push(letter),
        }
    }
    camel
}
