#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use serde_json::json;

fn faults(source: &Value) -> Vec<String> {
    let faults = Profile::parse("mine", source).expect_err("has mistakes");
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn the_built_in_profiles_parse() {
    for name in Profile::builtin_names() {
        let (_, text) = BUILTIN.iter().find(|(known, _)| *known == name).unwrap();
        let source: Value = serde_json::from_str(text).unwrap();
        Profile::parse(name, &source).unwrap();
        assert!(Profile::builtin(name).unwrap().builtin);
    }
    assert!(Profile::builtin("none").is_none());
}

#[test]
fn an_empty_profile_is_the_standard_one() {
    let profile = Profile::parse("mine", &json!({})).unwrap();
    assert_eq!(
        profile.options(JsonChoices::default()),
        JsonOptions::default()
    );
    assert_eq!(profile.content_type, "application/json");
    assert!(profile.success.is_empty() && profile.errors.is_empty());
}

#[test]
fn the_route_chooses_before_the_profile() {
    let phase1 = Profile::builtin("phase1").unwrap();
    let options = phase1.options(JsonChoices::default());
    assert_eq!(
        (options.int64, options.names),
        (Int64::Number, Names::Original)
    );
    assert_eq!(
        (options.defaults, options.dialect),
        (Defaults::Emit, Dialect::Plain)
    );
    assert_eq!(options.unknown_fields, UnknownFields::Ignore);
    let route = JsonChoices {
        int64: Some(Int64::String),
        ..JsonChoices::default()
    };
    assert_eq!(phase1.options(route).int64, Int64::String);
    assert_eq!(phase1.options(route).names, Names::Original);
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let source = json!({
        "requests": {},
        "request": { "dialect": "yaml", "empty_segments": "yes", "checks": [
            { "fields": { "a": "1-2", "b": [], "c": "9..1", "d": [1] } },
            { "when": { "code": "NOT_FOUND" } },
            7,
        ] },
        "json": { "int64": "hex" },
        "content_type": "a\nb",
        "success": [
            { "body": { "$sum": "x", "a": { "$each": "items", "as": "$" }, "b": ["$x"] } },
            { "when": { "method": ["A.b", "A/"], "path": [] } },
        ],
        "errors": [
            { "when": { "code": ["TEAPOT", "OK"], "http_status": 200 }, "status": "404", "body": "$massage" },
            { "body": { "a": ["$details", { "b": "$nope" }] } },
        ],
    });
    let got = faults(&source);
    let want = [
        "profiles.mine.requests: unknown key; there are description, request, json",
        "profiles.mine.request.dialect: write one of proto3, plain",
        "profiles.mine.request.empty_segments: write true or false here",
        "profiles.mine.request.checks[0].fields.a: write a range",
        "profiles.mine.request.checks[0].fields.b: write a range",
        "profiles.mine.request.checks[0].fields.c: write a range",
        "profiles.mine.request.checks[0].fields.d[0]: write a text here",
        "profiles.mine.request.checks[1].when.code: unknown key; there are method, path, http_method",
        "profiles.mine.request.checks[1]: `fields` is missing",
        "profiles.mine.request.checks[2]: write a map here",
        "profiles.mine.json.int64: write one of string, number",
        "profiles.mine.content_type: a header's value is visible ASCII",
        "profiles.mine.success[0].body: `$sum` is no directive",
        "profiles.mine.success[0].body.a.as: unknown key; there are $each, $as",
        "profiles.mine.success[0].body.b[0]: a written list holds no `$`",
        "profiles.mine.success[1].when.method[0]: write `package.Service/Method`",
        "profiles.mine.success[1].when.method[1]: write `package.Service/Method`",
        "profiles.mine.success[1].when.path: an empty list fits nothing",
        "profiles.mine.success[1]: `body` is missing",
        "profiles.mine.errors[0].when.code[0]: no gRPC code; there are CANCELLED",
        "profiles.mine.errors[0].when.code[1]: no gRPC code",
        "profiles.mine.errors[0].when.http_status: write an HTTP status from 400",
        "profiles.mine.errors[0].status: write an HTTP status from 400",
        "profiles.mine.errors[0].body: `$massage` is no value of a failure; there are $message",
        "profiles.mine.errors[1].body.a[1].b: `$nope` is no value",
    ];
    for want in want {
        assert!(
            got.iter().any(|fault| fault.starts_with(want)),
            "{want}\nis not among\n{got:#?}"
        );
    }
    assert_eq!(got.len(), want.len(), "{got:#?}");
    assert_eq!(faults(&json!([1])), ["profiles.mine: write a map here"]);
}

#[test]
fn bodies_become_shapes() {
    let source = json!({ "success": [{ "body": {
        "whole": "$", "field": "$a.b", "text": "plain", "dollar": "$$a", "$$key": 1,
        "list": [1, "two", { "three": null }],
        "count": { "$count": "items" },
        "each": { "$each": "$items", "$as": { "id": "$id" } },
        "all": { "$each": "items" },
    } }] });
    let profile = Profile::parse("mine", &source).unwrap();
    let json = |text: &str| ShapeNode::Json(text.to_owned());
    let each = |node| ShapeNode::Each("items".to_owned(), Box::new(node));
    let id = ShapeNode::Object(vec![("id".into(), ShapeNode::Field("id".into()))]);
    let want = vec![
        ("whole".to_owned(), ShapeNode::Whole),
        ("field".to_owned(), ShapeNode::Field("a.b".into())),
        ("text".to_owned(), json("\"plain\"")),
        ("dollar".to_owned(), json("\"$a\"")),
        ("$key".to_owned(), json("1")),
        ("list".to_owned(), json("[1,\"two\",{\"three\":null}]")),
        ("count".to_owned(), ShapeNode::Count("items".into())),
        ("each".to_owned(), each(id)),
        ("all".to_owned(), each(ShapeNode::Whole)),
    ];
    assert_eq!(profile.success[0].body, ShapeNode::Object(want));
}

#[test]
fn a_profile_is_printed_for_people() {
    let source = json!({
        "description": "Mine: all of it", "content_type": "application/json; charset=utf-8", "problem_json": true,
        "request": { "checks": [{ "fields": { "limit": "1..1000", "period": ["day", "yes"] } }] },
        "success": [{ "when": { "path": "/v1/{name}" }, "body": { "data": {
            "one": "$a_rather_long_field_name", "two": "$another_rather_long_field_name", "three": "$and_one_more_field",
            "four": { "$each": "items", "$as": { "deep": { "er": 1 } } },
        } } }],
        "errors": [{ "body": "$$x\n" }, { "status": 500, "body": [[1], [[2, [3]], []]] }],
    });
    let profile = Profile {
        source,
        ..Profile::parse("mine", &json!({})).unwrap()
    };
    let want = r#"description: "Mine: all of it"
content_type: application/json; charset=utf-8
problem_json: true
request:
  checks:
    - fields: { limit: 1..1000, period: [day, "yes"] }
success:
  - when: { path: "/v1/{name}" }
    body:
      data:
        one: $a_rather_long_field_name
        two: $another_rather_long_field_name
        three: $and_one_more_field
        four:
          $each: items
          $as: { deep: { er: 1 } }
errors:
  - { body: "$$x\n" }
  - status: 500
    body:
      - [1]
      -
        - [2, [3]]
        - []
"#;
    assert_eq!(profile.to_yaml(), want);
}
