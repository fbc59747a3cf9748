//! The rules of the JSON mapping one by one, and what API users are told when one is broken.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{SCHEMA, codec, decode, encode};
use transcode::{Defaults, Dialect, Enums, Int64, JsonOptions, Names, UnknownFields, WireError};

const EVERYTHING: &str = "everything.Everything";
const SCALARS: &str = "everything.Scalars";
const LEGACY: &str = "legacy.Legacy";

fn strict() -> JsonOptions {
    JsonOptions::default()
}

fn lenient() -> JsonOptions {
    JsonOptions {
        unknown_fields: UnknownFields::Ignore,
        ..strict()
    }
}

fn plain() -> JsonOptions {
    JsonOptions {
        dialect: Dialect::Plain,
        unknown_fields: UnknownFields::Ignore,
        names: Names::Original,
        ..strict()
    }
}

/// What comes back of a JSON text that goes to the wire and back.
fn round(options: JsonOptions, message: &str, json: &str) -> Result<String, String> {
    decode(options, message, &encode(options, message, json)?)
}

#[track_caller]
fn becomes(json: &str, expected: &str) {
    assert_eq!(round(strict(), EVERYTHING, json).as_deref(), Ok(expected));
}

#[track_caller]
fn refused(options: JsonOptions, message: &str, json: &str, why: &str) {
    let error = encode(options, message, json).expect_err(json);
    assert!(error.contains(why), "{json}: {error}");
}

#[test]
fn names_are_json_or_original() {
    becomes(
        r#"{"resource_id":"a","anotherName":1}"#.replace(r#","anotherName":1"#, "").as_str(),
        r#"{"resourceId":"a"}"#,
    );
    becomes(r#"{"another-name":"x"}"#, r#"{"another-name":"x"}"#);
    becomes(r#"{"renamed":"x"}"#, r#"{"another-name":"x"}"#);
    becomes(r#"{"resource\u0049d":"a"}"#, r#"{"resourceId":"a"}"#);
    refused(
        strict(),
        EVERYTHING,
        r#"{"ResourceId":"a"}"#,
        r#"no field "ResourceId""#,
    );
    assert_eq!(
        round(
            lenient(),
            EVERYTHING,
            r#"{"x":{"y":[1,"z"]},"resourceId":"a"}"#
        )
        .unwrap(),
        r#"{"resourceId":"a"}"#
    );
}

#[test]
fn integers_come_as_numbers_strings_and_exponents() {
    let json = r#"{"anInt64":"-5","anInt32":1e2,"aUint64":18446744073709551615,"aSint32":"1.0","aFixed32":4294967295}"#;
    let back = round(
        JsonOptions {
            int64: Int64::Number,
            ..strict()
        },
        SCALARS,
        json,
    )
    .unwrap();
    assert_eq!(
        back,
        r#"{"anInt32":100,"anInt64":-5,"aUint64":18446744073709551615,"aSint32":1,"aFixed32":4294967295}"#
    );
    for bad in [
        "0.5",
        "2147483648",
        "\"\"",
        "\" 1\"",
        "true",
        "null1",
        "01",
        "-",
        "1e-1",
        "{}",
        "[1]",
    ] {
        refused(strict(), SCALARS, &format!("{{\"anInt32\":{bad}}}"), "");
    }
    refused(
        strict(),
        SCALARS,
        r#"{"aUint32":-1}"#,
        "aUint32: expected an integer from 0 to 4294967295, found -1 (at byte 11)",
    );
}

#[test]
fn the_plain_dialect_reads_as_a_typed_reader_does() {
    let read = |json| round(plain(), SCALARS, json);
    assert_eq!(
        read(r#"{"AN_INT64":7,"a_string":"x","A_BOOL":true}"#).unwrap(),
        r#"{"an_int64":"7","a_bool":true,"a_string":"x"}"#
    );
    assert_eq!(read(r#"{"an_int64":null,"a_string":null}"#).unwrap(), "{}");
    assert_eq!(read(r#"{"an_int64":5,"an_int64":0}"#).unwrap(), "{}");
    assert_eq!(
        read(r#"{"an_int64":5,"AN_INT64":6,"an_int64":null}"#).unwrap(),
        r#"{"an_int64":"6"}"#
    );
    for bad in ["1.0", "1e2", "\"5\"", "true", "[]", "9223372036854775808"] {
        refused(
            plain(),
            SCALARS,
            &format!("{{\"an_int64\":{bad}}}"),
            "an_int64: expected an integer of 64 bits",
        );
    }
    refused(
        plain(),
        SCALARS,
        r#"{"a_string":5}"#,
        "a_string: expected a string, found a number (at byte 12)",
    );
    refused(
        plain(),
        SCALARS,
        r#"{"a_double":"5"}"#,
        "expected a number, found a string",
    );
    refused(plain(), SCALARS, r#"{} {}"#, "text after the end");
    let lists =
        r#"{"int32s":[1,2],"strings":["a"],"by_int32":{"1":"a"},"INT32S":[3],"by_int32":{}}"#;
    assert_eq!(
        round(plain(), EVERYTHING, lists).unwrap(),
        r#"{"int32s":[3],"strings":["a"]}"#
    );
}

#[test]
fn text_after_the_document_is_refused_everywhere() {
    for options in [strict(), plain()] {
        for json in ["{}x", "{}{}", "{},", "{} null"] {
            refused(options, SCALARS, json, "text after the end");
        }
        assert_eq!(encode(options, SCALARS, " \n{\t}\r\n "), Ok(Vec::new()));
    }
}

#[test]
fn fields_and_oneofs_come_once() {
    refused(
        strict(),
        SCALARS,
        r#"{"anInt32":1,"anInt32":1}"#,
        "anInt32: the field is there twice",
    );
    refused(
        strict(),
        SCALARS,
        r#"{"anInt32":1,"an_int32":1}"#,
        "there twice",
    );
    refused(
        strict(),
        EVERYTHING,
        r#"{"chosenInt64":1,"chosenString":""}"#,
        "chosenString: another field of the same oneof",
    );
    becomes(
        r#"{"chosenInt64":null,"chosenString":""}"#,
        r#"{"chosenString":""}"#,
    );
}

#[test]
fn null_is_unset_but_a_value_where_it_is_one() {
    becomes(
        r#"{"resourceId":null,"scalars":null,"int32s":null,"byInt32":null,"wrappedInt64":null,"at":null}"#,
        "{}",
    );
    becomes(r#"{"value":null}"#, r#"{"value":null}"#);
    becomes(r#"{"chosenNull":null}"#, r#"{"chosenNull":null}"#);
    becomes(r#"{"chosenValue":null}"#, r#"{"chosenValue":null}"#);
    becomes(r#"{"list":[null]}"#, r#"{"list":[null]}"#);
    refused(
        strict(),
        EVERYTHING,
        r#"{"int32s":[1,null]}"#,
        "int32s[1]: expected an integer",
    );
    refused(
        strict(),
        EVERYTHING,
        r#"{"byInt32":{"1":null}}"#,
        r#"byInt32["1"]: expected a string, found null"#,
    );
    refused(
        strict(),
        EVERYTHING,
        "null",
        "expected an object, found null",
    );
}

#[test]
fn enums_come_by_name_and_number() {
    becomes(
        r#"{"colours":["COLOUR_RED",2,"COLOUR_FAR",77,-1]}"#,
        r#"{"colours":["COLOUR_RED","COLOUR_GREEN","COLOUR_FAR",77,"COLOUR_NEGATIVE"]}"#,
    );
    let numbers = JsonOptions {
        enums: Enums::Number,
        ..strict()
    };
    assert_eq!(
        round(numbers, EVERYTHING, r#"{"maybeColour":"COLOUR_FAR"}"#).unwrap(),
        r#"{"maybeColour":1000}"#
    );
    refused(
        strict(),
        SCALARS,
        r#"{"colour":"red"}"#,
        r#"colour: everything.Colour has no value "red""#,
    );
    let unknown =
        r#"{"maybeColour":"X","colours":["X","COLOUR_RED"],"bySint64":{"1":"X","2":"COLOUR_RED"}}"#;
    assert_eq!(
        round(lenient(), EVERYTHING, unknown).unwrap(),
        r#"{"colours":["COLOUR_RED"],"bySint64":{"2":"COLOUR_RED"}}"#
    );
}

#[test]
fn floats_know_what_is_not_finite() {
    let json = r#"{"aDouble":"-Infinity","aFloat":"NaN"}"#;
    assert_eq!(round(strict(), SCALARS, json).unwrap(), json);
    assert_eq!(
        round(strict(), SCALARS, r#"{"aDouble":"1.5e3","aFloat":2}"#).unwrap(),
        r#"{"aDouble":1500,"aFloat":2}"#
    );
    refused(strict(), SCALARS, r#"{"aDouble":NaN}"#, "not JSON");
    refused(strict(), SCALARS, r#"{"aFloat":1e39}"#, "too large");
    refused(
        strict(),
        SCALARS,
        r#"{"aDouble":"inf"}"#,
        "expected a number",
    );
}

#[test]
fn bytes_come_in_both_alphabets() {
    for text in ["+/8=", "+/8", "-_8=", "-_8"] {
        let back = round(strict(), SCALARS, &format!("{{\"aBytes\":\"{text}\"}}")).unwrap();
        assert_eq!(back, r#"{"aBytes":"+/8="}"#);
    }
    refused(strict(), SCALARS, r#"{"aBytes":"a"}"#, "aBytes: not base64");
    refused(strict(), SCALARS, r#"{"aBytes":"a*=="}"#, "not base64");
}

#[test]
fn an_any_finds_its_type_wherever_it_stands() {
    let json = r#"{"any":{"anInt32":5,"@type":"type.googleapis.com/everything.Scalars"}}"#;
    becomes(
        json,
        r#"{"any":{"@type":"type.googleapis.com/everything.Scalars","anInt32":5}}"#,
    );
    let known = r#"{"any":{"@type":"a/google.protobuf.Duration","value":"1.500s"}}"#;
    becomes(known, known);
    becomes(r#"{"any":{}}"#, r#"{"any":{}}"#);
    refused(
        strict(),
        EVERYTHING,
        r#"{"any":{"value":1}}"#,
        "any: @type is missing",
    );
    refused(
        strict(),
        EVERYTHING,
        r#"{"any":{"@type":"a/no.Such"}}"#,
        "any.@type: the type \"a/no.Such\" is not known",
    );
    refused(
        strict(),
        EVERYTHING,
        r#"{"any":{"@type":"a/google.protobuf.Duration"}}"#,
        "value is missing",
    );
    let wire = [&[0x9a, 4, 6, 10, 4][..], b"a/no"].concat();
    let unknown =
        codec(strict()).decode(SCHEMA.message(EVERYTHING).unwrap(), &wire, &mut Vec::new());
    assert_eq!(unknown, Err(WireError::UnknownAny));
}

#[test]
fn masks_and_structs_have_their_own_forms() {
    becomes(
        r#"{"mask":"fooBar,baz.quxQuux"}"#,
        r#"{"mask":"fooBar,baz.quxQuux"}"#,
    );
    refused(
        strict(),
        EVERYTHING,
        r#"{"mask":"foo_bar"}"#,
        "lowerCamelCase",
    );
    let object = r#"{"object":{"a":[1,"b",{"c":true}],"d":null},"value":[{}],"list":[]}"#;
    becomes(object, object);
    becomes(r#"{"object":{"a":1,"a":2}}"#, r#"{"object":{"a":2}}"#);
}

#[test]
fn proto2_has_groups_closed_enums_and_extensions() {
    let json = r#"{"name":"n","inner":{"text":"t","deep":{"value":1}},"many":[{"value":1},{}],"[legacy.nickname]":"nick","[legacy.friends]":[{"name":"f"}],"[legacy.Scope.score]":"3"}"#;
    assert_eq!(round(strict(), LEGACY, json).unwrap(), json);
    // 9 is no value of Closed: single, in a list, packed, in a map.
    let wire = [
        0x18, 9, 0x20, 1, 0x20, 9, 0x22, 2, 9, 2, 0x3a, 5, 10, 1, b'a', 16, 9, 0x3a, 5, 10, 1,
        b'b', 16, 2,
    ];
    assert_eq!(
        decode(strict(), LEGACY, &wire).unwrap(),
        r#"{"manyClosed":["ONE","TWO"],"closedByName":{"b":"TWO"}}"#
    );
    assert_eq!(
        decode(strict(), LEGACY, &[0x18, 2, 0x18, 9]).unwrap(),
        r#"{"closed":"TWO"}"#
    );
    assert_eq!(
        decode(strict(), LEGACY, &[0x43, 0x4b, 0x44]),
        Err(WireError::Group.to_string())
    );
}

#[test]
fn records_merge_as_the_specification_says() {
    let wire = |parts: &[&str]| -> Vec<u8> {
        parts
            .iter()
            .flat_map(|json| encode(strict(), EVERYTHING, json).unwrap())
            .collect()
    };
    let merged = |parts: &[&str]| decode(strict(), EVERYTHING, &wire(parts)).unwrap();
    assert_eq!(
        merged(&[r#"{"maybeInt32":1}"#, r#"{"maybeInt32":2}"#]),
        r#"{"maybeInt32":2}"#
    );
    let scalars = [
        r#"{"scalars":{"anInt32":1,"aString":"a"}}"#,
        r#"{"scalars":{"anInt32":2}}"#,
    ];
    assert_eq!(
        merged(&scalars),
        r#"{"scalars":{"anInt32":2,"aString":"a"}}"#
    );
    let lists = [
        r#"{"int32s":[1],"strings":["a"]}"#,
        r#"{"int32s":[2],"strings":["b"]}"#,
    ];
    assert_eq!(merged(&lists), r#"{"int32s":[1,2],"strings":["a","b"]}"#);
    let maps = [
        r#"{"byInt32":{"1":"a","2":"b"}}"#,
        r#"{"byInt32":{"1":"c"}}"#,
    ];
    assert_eq!(merged(&maps), r#"{"byInt32":{"2":"b","1":"c"}}"#);
    assert_eq!(
        merged(&[r#"{"chosenInt64":"1"}"#, r#"{"chosenString":"s"}"#]),
        r#"{"chosenString":"s"}"#
    );
    let oneof = [
        r#"{"chosenScalars":{"anInt32":1}}"#,
        r#"{"chosenInt64":"1"}"#,
        r#"{"chosenScalars":{"aBool":true}}"#,
    ];
    assert_eq!(merged(&oneof), r#"{"chosenScalars":{"aBool":true}}"#);
    // Unpacked where packed is declared, and the reverse.
    assert_eq!(
        decode(strict(), EVERYTHING, &[0x58, 1, 0x58, 2, 0x62, 2, 3, 4]).unwrap(),
        r#"{"int32s":[1,2],"int64s":["3","4"]}"#
    );
}

#[test]
fn members_stand_in_the_order_of_declaration() {
    let json = r#"{"last":"l","first":"1","right":{"anInt32":1},"numbers":[1,2]}"#;
    assert_eq!(
        round(
            strict(),
            "everything.Shuffled",
            r#"{"numbers":[1,2],"right":{"anInt32":1},"first":1,"last":"l"}"#
        )
        .unwrap(),
        json
    );
}

#[test]
fn defaults_are_written_on_request() {
    let emit = JsonOptions {
        defaults: Defaults::Emit,
        int64: Int64::Number,
        names: Names::Original,
        ..strict()
    };
    let all = r#"{"a_double":0,"a_float":0,"an_int32":0,"an_int64":0,"a_uint32":0,"a_uint64":0,"a_sint32":0,"a_sint64":0,"a_fixed32":0,"a_fixed64":0,"an_sfixed32":0,"an_sfixed64":0,"a_bool":false,"a_string":"","a_bytes":"","colour":"COLOUR_UNSPECIFIED"}"#;
    assert_eq!(decode(emit, SCALARS, &[]).unwrap(), all);
    assert_eq!(
        decode(emit, SCALARS, &[0x78, 0, 0x20, 5]).unwrap(),
        all.replace("\"an_int64\":0", "\"an_int64\":5")
    );
    assert_eq!(
        decode(emit, "everything.Shuffled", &[]).unwrap(),
        r#"{"last":"","first":0,"numbers":[]}"#
    );
}

#[test]
fn nesting_is_limited_both_ways() {
    let json = |depth: usize| {
        format!(
            "{}{}",
            r#"{"child":"#.repeat(depth),
            "{}".to_owned() + &"}".repeat(depth)
        )
    };
    assert!(round(strict(), EVERYTHING, &json(90)).is_ok());
    refused(strict(), EVERYTHING, &json(101), "nested too deeply");
    refused(
        strict(),
        EVERYTHING,
        &format!("{{\"value\":{}", "[".repeat(100_000)),
        "nested too deeply",
    );
    refused(
        lenient(),
        EVERYTHING,
        &format!("{{\"x\":{}", "[".repeat(100_000)),
        "nested too deeply",
    );
    let mut wire = Vec::new();
    for _ in 0..200 {
        let mut outer = vec![0xb2, 4];
        let length = wire.len();
        outer.extend([length as u8 & 0x7f | 0x80, (length >> 7) as u8]);
        outer.extend_from_slice(&wire);
        wire = outer;
    }
    assert_eq!(
        decode(strict(), EVERYTHING, &wire),
        Err(WireError::Depth.to_string())
    );
}

#[test]
fn strings_on_the_wire_are_utf8() {
    assert_eq!(
        decode(strict(), EVERYTHING, &[0x12, 1, 0xff]),
        Err(WireError::Utf8.to_string())
    );
    assert_eq!(
        decode(strict(), EVERYTHING, &[0x12, 5, b'a']),
        Err(WireError::Truncated.to_string())
    );
}
