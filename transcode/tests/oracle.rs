//! The codec against prost-reflect: random messages of every type, both directions, with every option; and arbitrary input, which
//! must be refused or read, never panic.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{POOL, SCHEMA, codec, random};
use proptest::prelude::*;
use proptest::sample::select;
use prost_reflect::prost::Message as _;
use prost_reflect::{DeserializeOptions, SerializeOptions};
use prost_reflect::{DynamicMessage, ReflectMessage};
use transcode::{Defaults, Dialect, Enums, Int64, JsonOptions, Names, UnknownFields, WireError};

fn options() -> impl Strategy<Value = JsonOptions> {
    let int64 = select(vec![Int64::String, Int64::Number]);
    let enums = select(vec![Enums::Name, Enums::Number]);
    let names = select(vec![Names::Camel, Names::Original]);
    let defaults = select(vec![Defaults::Omit, Defaults::Emit]);
    (int64, enums, names, defaults).prop_map(|(int64, enums, names, defaults)| JsonOptions {
        int64,
        enums,
        names,
        defaults,
        unknown_fields: UnknownFields::Reject,
        dialect: Dialect::Proto3,
    })
}

/// Name and seed of a message: not the message itself, whose `Debug` follows its descriptor for ever when the type is recursive.
fn tested() -> impl Strategy<Value = (&'static str, u64)> {
    let names = [
        "everything.Scalars",
        "everything.Shuffled",
        "everything.Everything",
        "everything.Everything",
    ];
    (select(names.to_vec()), proptest::num::u64::ANY)
}

fn random_message(name: &str, seed: u64) -> DynamicMessage {
    random::message(
        &mut fastrand::Rng::with_seed(seed),
        POOL.get_message_by_name(name).unwrap(),
        2,
    )
}

fn oracle_json(message: &DynamicMessage, options: JsonOptions) -> serde_json::Value {
    try_oracle_json(message, options).expect("the oracle writes JSON")
}

fn try_oracle_json(
    message: &DynamicMessage,
    options: JsonOptions,
) -> serde_json::Result<serde_json::Value> {
    let serialize = SerializeOptions::new()
        .stringify_64_bit_integers(options.int64 == Int64::String)
        .use_enum_numbers(options.enums == Enums::Number)
        .use_proto_field_name(options.names == Names::Original)
        .skip_default_fields(options.defaults == Defaults::Omit);
    message.serialize_with_options(serde_json::value::Serializer, &serialize)
}

fn json_of(message: &DynamicMessage, wire: &[u8], options: JsonOptions) -> Vec<u8> {
    let id = SCHEMA.message(message.descriptor().full_name()).unwrap();
    let mut json = Vec::new();
    codec(options)
        .decode(id, wire, &mut json)
        .expect("the codec writes JSON");
    json
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn wire_to_json_is_the_oracles((name, seed) in tested(), options in options()) {
        let message = random_message(name, seed);
        check_json(&message, &message.encode_to_vec(), options)?;
    }

    #[test]
    fn json_to_wire_is_the_oracles((name, seed) in tested(), options in options()) {
        let message = random_message(name, seed);
        let json = oracle_json(&message, options).to_string();
        let id = SCHEMA.message(name).unwrap();
        let mut wire = Vec::new();
        let encoded = codec(options).encode(id, json.as_bytes(), &mut wire);
        prop_assert!(encoded.is_ok(), "{encoded:?} of {json}");
        let ours = DynamicMessage::decode(message.descriptor(), wire.as_slice()).expect("it is protobuf");
        let theirs = oracle_message(name, &json);
        prop_assert!(same(&ours, &theirs), "ours: {}\ntheirs: {}", oracle_json(&ours, options), json);
    }

    #[test]
    fn records_in_any_order_merge(seeds in proptest::collection::vec(proptest::num::u64::ANY, 0..4), options in options()) {
        // Concatenated messages are one message, in which fields come again and out of order.
        let name = "everything.Everything";
        let parts = seeds.into_iter().map(|seed| random_message(name, seed).encode_to_vec());
        let wire = parts.collect::<Vec<_>>().concat();
        let merged = DynamicMessage::decode(POOL.get_message_by_name(name).unwrap(), wire.as_slice()).unwrap();
        // What merges can be without a JSON form: a duration of two signs, an Any of one's type and the other's bytes.
        let decoded = codec(options).decode(SCHEMA.message(name).unwrap(), &wire, &mut Vec::new());
        match (decoded, try_oracle_json(&merged, options)) {
            (Ok(()), Ok(_)) => check_json(&merged, &wire, options)?,
            (Err(error), Ok(_)) => prop_assert_eq!(error, WireError::Time),
            (_, Err(_)) => {}
        }
    }

    #[test]
    fn our_own_json_comes_back((name, seed) in tested(), options in options()) {
        let message = random_message(name, seed);
        let json = json_of(&message, &message.encode_to_vec(), options);
        let mut back = Vec::new();
        codec(options).encode(SCHEMA.message(name).unwrap(), &json, &mut back).expect("it reads its own JSON");
        prop_assert_eq!(json_of(&message, &back, options), json);
    }
}

/// Our JSON of the bytes has the oracle's members, and it is the same message to the oracle.
fn check_json(
    message: &DynamicMessage,
    wire: &[u8],
    options: JsonOptions,
) -> Result<(), TestCaseError> {
    let json = String::from_utf8(json_of(message, wire, options)).expect("JSON is UTF-8");
    let ours = serde_json::from_str(&json).expect("it is JSON");
    prop_assert_eq!(coarse(ours), coarse(oracle_json(message, options)));
    let theirs = oracle_message(message.descriptor().full_name(), &json);
    let shown = |message| oracle_json(message, options).to_string();
    prop_assert!(
        same(&theirs, message),
        "another message to the oracle:\n{}\n{}",
        shown(&theirs),
        shown(message)
    );
    Ok(())
}

/// Equal, also if one says explicitly what is the default in the other.
fn same(left: &DynamicMessage, right: &DynamicMessage) -> bool {
    oracle_json(left, JsonOptions::default()) == oracle_json(right, JsonOptions::default())
}

/// Numbers as floats: the oracle writes 1.0 and the nearest double of a float. That no digit is lost is checked by reading back.
fn coarse(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Number(number) => Value::from(number.as_f64().unwrap() as f32),
        Value::Array(elements) => elements.into_iter().map(coarse).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, coarse(value)))
            .collect(),
        other => other,
    }
}

fn oracle_message(name: &str, json: &str) -> DynamicMessage {
    let descriptor = POOL.get_message_by_name(name).unwrap();
    let mut deserializer = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize_with_options(
        descriptor,
        &mut deserializer,
        &DeserializeOptions::new(),
    )
    .expect("the oracle reads the JSON")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_wire_never_panics(wire in proptest::collection::vec(prop_oneof![0..32u8, proptest::num::u8::ANY], 0..200)) {
        for name in ["everything.Everything", "everything.Shuffled", "legacy.Legacy", "google.protobuf.Value"] {
            let mut json = Vec::new();
            if codec(JsonOptions::default()).decode(SCHEMA.message(name).unwrap(), &wire, &mut json).is_ok() {
                serde_json::from_slice::<serde_json::Value>(&json).expect("what is written is JSON");
            }
        }
    }

    #[test]
    fn every_double_and_float_survives(double: u64, float: u32) {
        let wire = [&[0x09][..], &double.to_le_bytes(), &[0x15], &float.to_le_bytes()].concat();
        let finite = f64::from_bits(double).is_finite() && f32::from_bits(float).is_finite();
        if finite && double != 0 && float != 0 {
            let (codec, id) = (codec(JsonOptions::default()), SCHEMA.message("everything.Scalars").unwrap());
            let (mut json, mut back) = (Vec::new(), Vec::new());
            codec.decode(id, &wire, &mut json).expect("it is written");
            codec.encode(id, &json, &mut back).expect("it is read");
            prop_assert_eq!(back, wire);
        }
    }

    #[test]
    fn arbitrary_json_never_panics(json in "[{}\\[\\]\":,a-zA-Z0-9.@\\\\ -]{0,60}|[{][\"](scalars|child|object|any|byInt32|at)[\"]:[{}\\[\\]\":,@a-z0-9 ]{0,40}") {
        for dialect in [Dialect::Proto3, Dialect::Plain] {
            let options = JsonOptions { dialect, unknown_fields: UnknownFields::Ignore, ..JsonOptions::default() };
            let id = SCHEMA.message("everything.Everything").unwrap();
            let _ = codec(options).encode(id, json.as_bytes(), &mut Vec::new());
        }
    }

    /// Whole records stand before the cut, so that the oracle, which is careless with changed wire types, can be asked.
    #[test]
    fn truncated_wire_is_taken_when_the_oracle_takes_it(seed: u64, cut in 0..1000usize) {
        let message = random_message("everything.Everything", seed);
        let mut wire = message.encode_to_vec();
        wire.truncate(cut);
        let ours = decoded(&wire);
        let theirs = DynamicMessage::decode(message.descriptor(), wire.as_slice());
        prop_assert_eq!(ours.is_some(), theirs.is_ok());
    }

    #[test]
    fn what_is_taken_of_changed_wire_is_json_that_comes_back(seed: u64, cut in 0..1000usize, at in 0..1000usize, byte: u8) {
        let mut wire = random_message("everything.Everything", seed).encode_to_vec();
        wire.truncate(cut);
        if let Some(slot) = wire.get_mut(at) {
            *slot = byte;
        }
        if let Some(json) = decoded(&wire) {
            let mut back = Vec::new();
            let id = SCHEMA.message("everything.Everything").unwrap();
            codec(JsonOptions::default()).encode(id, json.as_bytes(), &mut back).expect("our own JSON is read");
            prop_assert_eq!(decoded(&back), Some(json));
        }
    }
}

/// The default JSON of what may be an `everything.Everything`; nothing if it is refused.
fn decoded(wire: &[u8]) -> Option<String> {
    let id = SCHEMA.message("everything.Everything").unwrap();
    let mut json = Vec::new();
    codec(JsonOptions::default())
        .decode(id, wire, &mut json)
        .ok()?;
    Some(String::from_utf8(json).expect("JSON is UTF-8"))
}
