//! Random messages of any type, the same for the same seed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use fastrand::Rng;
use prost_reflect::prost::Message as _;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};

use super::POOL;

/// A random message in which messages nest at most `depth` deep.
pub(crate) fn message(rng: &mut Rng, descriptor: MessageDescriptor, depth: u32) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => {
            time(rng, &mut message, -62_135_596_800..=253_402_300_799, false)
        }
        "google.protobuf.Duration" => {
            time(rng, &mut message, -315_575_999_999..=315_575_999_999, true)
        }
        "google.protobuf.FieldMask" => mask(rng, &mut message),
        "google.protobuf.Any" => any(rng, &mut message, depth),
        name => {
            let few = descriptor.fields().len() <= 6;
            for field in descriptor.fields() {
                let nests = field.kind().as_message().is_some() && depth == 0;
                if !nests && rng.u32(..if few { 2 } else { 5 }) == 0 {
                    message.set_field(&field, field_value(rng, &field, depth));
                }
            }
            // A Value needs one of its members; the string is as good as any.
            if name == "google.protobuf.Value" && message.fields().next().is_none() {
                message.set_field_by_name("string_value", Value::String("some".into()));
            }
        }
    }
    message
}

fn time(
    rng: &mut Rng,
    message: &mut DynamicMessage,
    range: std::ops::RangeInclusive<i64>,
    signed: bool,
) {
    let seconds = rng.i64(range);
    let nanos = [0, rng.i32(0..1_000_000_000), rng.i32(0..1000) * 1_000_000][rng.usize(..3)];
    message.set_field_by_name("seconds", Value::I64(seconds));
    message.set_field_by_name(
        "nanos",
        Value::I32(if signed && seconds < 0 { -nanos } else { nanos }),
    );
}

fn mask(rng: &mut Rng, message: &mut DynamicMessage) {
    let paths = ["a", "foo_bar", "a.b_c.d", "long_name_of_three"];
    let chosen = (0..rng.usize(..3)).map(|_| Value::String(paths[rng.usize(..paths.len())].into()));
    message.set_field_by_name("paths", Value::List(chosen.collect()));
}

fn any(rng: &mut Rng, target: &mut DynamicMessage, depth: u32) {
    let types = [
        "everything.Scalars",
        "everything.Everything",
        "google.protobuf.Duration",
        "google.protobuf.Int64Value",
    ];
    let descriptor = POOL
        .get_message_by_name(types[rng.usize(..types.len())])
        .unwrap();
    let inner = message(rng, descriptor, depth.saturating_sub(1));
    let url = format!("type.googleapis.com/{}", inner.descriptor().full_name());
    target.set_field_by_name("type_url", Value::String(url));
    target.set_field_by_name("value", Value::Bytes(inner.encode_to_vec().into()));
}

fn field_value(rng: &mut Rng, field: &FieldDescriptor, depth: u32) -> Value {
    let depth = depth.saturating_sub(1);
    let count = rng.usize(..4) * rng.usize(1..6);
    if field.is_map() {
        let entry = field.kind().as_message().unwrap().clone();
        let (key, inner) = (
            entry.map_entry_key_field().kind(),
            entry.map_entry_value_field().kind(),
        );
        return Value::Map(
            (0..count)
                .map(|_| (map_key(value(rng, &key, 0)), value(rng, &inner, depth)))
                .collect(),
        );
    }
    if field.is_list() {
        return Value::List(
            (0..count)
                .map(|_| value(rng, &field.kind(), depth))
                .collect(),
        );
    }
    value(rng, &field.kind(), depth)
}

fn map_key(value: Value) -> MapKey {
    match value {
        Value::Bool(key) => MapKey::Bool(key),
        Value::I32(key) => MapKey::I32(key),
        Value::I64(key) => MapKey::I64(key),
        Value::U32(key) => MapKey::U32(key),
        Value::U64(key) => MapKey::U64(key),
        Value::String(key) => MapKey::String(key),
        other => panic!("{other:?} is no map key"),
    }
}

fn value(rng: &mut Rng, kind: &Kind, depth: u32) -> Value {
    let bits = rng.u64(..) >> rng.u32(..64);
    match kind {
        Kind::Double => Value::F64(double(rng)),
        Kind::Float => Value::F32(float(rng)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(if rng.bool() {
            bits as i32
        } else {
            -(bits as i16 as i32)
        }),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            Value::I64((bits as i64).wrapping_mul(if rng.bool() { 1 } else { -1 }))
        }
        Kind::Uint32 | Kind::Fixed32 => Value::U32(bits as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(bits),
        Kind::Bool => Value::Bool(rng.bool()),
        Kind::String => Value::String(text(rng)),
        Kind::Bytes => Value::Bytes((0..rng.usize(..20)).map(|_| rng.u8(..)).collect()),
        Kind::Enum(descriptor) => {
            let known: Vec<i32> = descriptor.values().map(|value| value.number()).collect();
            let null = descriptor.full_name().ends_with("NullValue");
            let unknown = [77, 999_999, -5][rng.usize(..3)];
            Value::EnumNumber(if null || rng.u32(..4) > 0 {
                known[rng.usize(..known.len())]
            } else {
                unknown
            })
        }
        Kind::Message(descriptor) => Value::Message(message(rng, descriptor.clone(), depth)),
    }
}

/// Doubles that serde_json, as the oracle uses it, reads without an error in the last digit.
fn double(rng: &mut Rng) -> f64 {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        1e300,
        5e-324,
        f64::MAX,
        f64::MIN_POSITIVE,
        1e21,
        1e16,
    ];
    if rng.bool() {
        special[rng.usize(..special.len())]
    } else {
        f64::from(rng.i32(..) >> 8) / 16.0
    }
}

fn float(rng: &mut Rng) -> f32 {
    let special = [0.0, -0.0, 1.0, -1.5, f32::MIN_POSITIVE, 16_777_216.0, 0.1];
    let any = f32::from_bits(rng.u32(..));
    if rng.bool() || !any.is_finite() {
        special[rng.usize(..special.len())]
    } else {
        any
    }
}

/// Mostly plain text, with all that needs an escape or is longer than a byte strewn in.
fn text(rng: &mut Rng) -> String {
    let strange = [
        '"', '\\', '/', '\n', '\t', '\0', '\u{1f}', '\u{7f}', 'é', '€', '😀', '\u{2028}',
        '\u{fffd}',
    ];
    let letter = |rng: &mut Rng| {
        if rng.u32(..12) == 0 {
            strange[rng.usize(..strange.len())]
        } else {
            rng.char('a'..='z')
        }
    };
    (0..rng.usize(..30)).map(|_| letter(rng)).collect()
}
