//! Fields alone: text of a URL to a path, one field as the body, chosen fields in another shape.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{SCHEMA, codec, decode, encode};
use transcode::{Dialect, FieldPath, JsonOptions, Names, ShapeError, ShapeNode};

const EVERYTHING: &str = "everything.Everything";

fn strict() -> JsonOptions {
    JsonOptions::default()
}

fn plain() -> JsonOptions {
    JsonOptions {
        dialect: Dialect::Plain,
        ..strict()
    }
}

/// A field path's text, and the JSON of what it made.
fn text(options: JsonOptions, path: &str, text: &str) -> Result<String, String> {
    let id = SCHEMA.message(EVERYTHING).unwrap();
    let path = FieldPath::resolve(&SCHEMA, id, path).unwrap();
    let mut wire = Vec::new();
    codec(options)
        .encode_text(&path, text, &mut wire)
        .map_err(|error| error.to_string())?;
    decode(strict(), EVERYTHING, &wire)
}

#[test]
fn plain_text_goes_to_fields_of_any_depth() {
    let to = |path, value| text(strict(), path, value).unwrap();
    assert_eq!(to("resource_id", "a b\"c"), r#"{"resourceId":"a b\"c"}"#);
    assert_eq!(
        to("child.child.scalars.anInt64", "-7"),
        r#"{"child":{"child":{"scalars":{"anInt64":"-7"}}}}"#
    );
    assert_eq!(to("int32s", "5"), r#"{"int32s":[5]}"#);
    assert_eq!(to("wrappedInt64", "5"), r#"{"wrappedInt64":"5"}"#);
    assert_eq!(to("wrapped_bool", "true"), r#"{"wrappedBool":true}"#);
    assert_eq!(
        to("at", "2024-01-31T12:00:00Z"),
        r#"{"at":"2024-01-31T12:00:00Z"}"#
    );
    assert_eq!(to("took", "1.5s"), r#"{"took":"1.500s"}"#);
    assert_eq!(to("mask", "fooBar,b"), r#"{"mask":"fooBar,b"}"#);
    assert_eq!(
        to("scalars.colour", "COLOUR_RED"),
        r#"{"scalars":{"colour":"COLOUR_RED"}}"#
    );
    assert_eq!(
        to("scalars.colour", "2"),
        r#"{"scalars":{"colour":"COLOUR_GREEN"}}"#
    );
    assert_eq!(
        to("scalars.aDouble", "1e3"),
        r#"{"scalars":{"aDouble":1000}}"#
    );
    assert_eq!(
        to("scalars.aBytes", "-_8"),
        r#"{"scalars":{"aBytes":"+/8="}}"#
    );
    assert_eq!(
        text(strict(), "scalars.anInt32", "x").unwrap_err(),
        "scalars.anInt32: expected an integer from -2147483648 to 2147483647 (at byte 0)"
    );
    assert!(text(plain(), "scalars.anInt32", "1.0").is_err());
    assert!(text(strict(), "scalars.aBool", "1").is_err());
}

#[test]
fn paths_that_name_nothing_are_explained() {
    let resolve = |path| FieldPath::resolve(&SCHEMA, SCHEMA.message(EVERYTHING).unwrap(), path);
    assert_eq!(
        resolve("scalars.nope").unwrap_err().to_string(),
        "everything.Scalars has no field nope"
    );
    assert!(
        resolve("children.resource_id")
            .unwrap_err()
            .to_string()
            .contains("not a single message")
    );
    assert!(
        resolve("resource_id.x")
            .unwrap_err()
            .to_string()
            .contains("not a single message")
    );
    assert!(resolve("at").unwrap().takes_text(&SCHEMA));
    assert!(!resolve("scalars").unwrap().takes_text(&SCHEMA));
}

#[test]
fn one_field_is_read_and_written_alone() {
    let id = SCHEMA.message(EVERYTHING).unwrap();
    let (codec, path) = (codec(strict()), |path| {
        FieldPath::resolve(&SCHEMA, id, path).unwrap()
    });
    let mut wire = Vec::new();
    codec
        .encode_field(&path("many_scalars"), br#"[{"anInt32":1},{}]"#, &mut wire)
        .unwrap();
    codec
        .encode_field(&path("child.by_int32"), br#" {"1":"a"} "#, &mut wire)
        .unwrap();
    codec
        .encode_field(&path("resource_id"), b"null", &mut wire)
        .unwrap();
    let read = |name| {
        let mut json = Vec::new();
        codec.decode_field(&path(name), &wire, &mut json).unwrap();
        String::from_utf8(json).unwrap()
    };
    assert_eq!(read("many_scalars"), r#"[{"anInt32":1},{}]"#);
    assert_eq!(read("child.by_int32"), r#"{"1":"a"}"#);
    assert_eq!(read("child.child.resource_id"), "\"\"");
    assert_eq!(read("scalars"), "null");
    assert_eq!(read("strings"), "[]");
    let error = codec
        .encode_field(&path("scalars"), br#"{"anInt32":"x"}"#, &mut wire)
        .unwrap_err();
    assert_eq!(error.path(), "scalars.anInt32");
    codec
        .encode_field(&path("resource_id"), br#""a" x"#, &mut wire)
        .unwrap_err();
}

#[test]
fn shapes_choose_fields_and_count() {
    let (codec, id) = (
        codec(JsonOptions {
            names: Names::Original,
            ..strict()
        }),
        SCHEMA.message(EVERYTHING).unwrap(),
    );
    let field = |name: &str| ShapeNode::Field(name.to_owned());
    let object = |members: Vec<(&str, ShapeNode)>| {
        ShapeNode::Object(
            members
                .into_iter()
                .map(|(name, node)| (name.to_owned(), node))
                .collect(),
        )
    };
    let each = object(vec![("n", field("an_int32")), ("s", field("a_string"))]);
    let node = object(vec![
        ("status", ShapeNode::Json("\"ok\"".into())),
        ("id", field("resource_id")),
        ("deep", field("child.child.resource_id")),
        (
            "list",
            ShapeNode::Each("many_scalars".into(), each.clone().into()),
        ),
        ("one", ShapeNode::Each("scalars".into(), each.into())),
        ("total", ShapeNode::Count("many_scalars".into())),
        ("numbers", ShapeNode::Count("int32s".into())),
        ("keys", ShapeNode::Count("by_int32".into())),
        ("empty", object(vec![])),
    ]);
    let shape = codec.shape(id, &node).unwrap();
    let shaped = |json| {
        let mut out = Vec::new();
        codec
            .decode_shape(
                &shape,
                &encode(strict(), EVERYTHING, json).unwrap(),
                &mut out,
            )
            .unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        shaped("{}"),
        r#"{"status":"ok","id":"","deep":"","list":[],"one":null,"total":0,"numbers":0,"keys":0,"empty":{}}"#
    );
    let full = r#"{"byInt32":{"1":"a","2":"b"},"manyScalars":[{"anInt32":1},{"aString":"x"}],"int32s":[1,2,300],"scalars":{},"resourceId":"r"}"#;
    assert_eq!(
        shaped(full),
        r#"{"status":"ok","id":"r","deep":"","list":[{"n":1,"s":""},{"n":0,"s":"x"}],"one":{"n":0,"s":""},"total":2,"numbers":3,"keys":2,"empty":{}}"#
    );
}

#[test]
fn shapes_that_fit_no_message_are_refused() {
    let (codec, id) = (codec(strict()), SCHEMA.message(EVERYTHING).unwrap());
    let field = |name: &str| ShapeNode::Field(name.to_owned());
    assert_eq!(
        codec.shape(id, &ShapeNode::Json("{".into())).unwrap_err(),
        ShapeError::NotJson("{".into())
    );
    assert_eq!(
        codec
            .shape(id, &ShapeNode::Count("scalars".into()))
            .unwrap_err(),
        ShapeError::NotCountable("scalars".into())
    );
    let not_a_message = ShapeNode::Each("strings".into(), ShapeNode::Whole.into());
    assert_eq!(
        codec.shape(id, &not_a_message).unwrap_err(),
        ShapeError::NotAMessage("strings".into())
    );
    codec.shape(id, &field("nope")).unwrap_err();
}
