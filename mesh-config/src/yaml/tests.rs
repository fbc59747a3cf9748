#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::origins::Origins;
use crate::problem::problems_text;

fn read(text: &str) -> Result<Node, String> {
    let environment = |name: &str| (name == "TWO").then(|| "2".to_owned());
    let mut report = Report::new(Origins::one(Arc::from("f")));
    let node = parse(text, Environment(&environment), &mut report);
    report
        .finish(node)
        .map_err(|problems| problems_text(&problems))
}

fn json_of(text: &str) -> Value {
    read(text).expect(text).to_json()
}

#[test]
fn scalars_are_those_of_the_core_schema() {
    for (text, expected) in [
        ("a: text", json!("text")),
        ("a: 5", json!(5)),
        ("a: -0x1F", json!("-0x1F")),
        ("a: 0x1F", json!(31)),
        ("a: 0o17", json!(15)),
        ("a: 017", json!(17)),
        ("a: 1.5e3", json!(1500.0)),
        ("a: 99999999999999999999", json!(1e20)),
        ("a: .inf", json!(".inf")),
        ("a: true", json!(true)),
        ("a: yes", json!("yes")),
        ("a: on", json!("on")),
        ("a: ~", Value::Null),
        ("a:", Value::Null),
        ("a: \"5\"", json!("5")),
        ("a: 'null'", json!("null")),
        ("a: !!str 5", json!("5")),
        ("a: ! 5", json!("5")),
        ("a: 1.2.3", json!("1.2.3")),
        ("a: 127.0.0.1:80", json!("127.0.0.1:80")),
        ("a: 5s # comment", json!("5s")),
        ("a: |\n  one\n  two\n", json!("one\ntwo\n")),
        ("a: >-\n  one\n  two\n", json!("one two")),
        ("a: \"\\u00e9\\n\"", json!("é\n")),
        ("a: ${TWO}", json!("2")),
        ("a: '${TWO}${NONE:-}'", json!("2")),
        ("a: ${NONE:-}", json!("")),
    ] {
        assert_eq!(json_of(text), json!({ "a": expected }), "{text}");
    }
}

#[test]
fn a_variable_without_quotes_may_be_a_number() {
    let node = read("a: ${TWO}").expect("a map");
    let Kind::Map(entries) = node.kind else {
        panic!("not a map")
    };
    let Kind::Scalar(scalar) = &entries[0].value.kind else {
        panic!("not a scalar")
    };
    assert_eq!((scalar.integer(), scalar.as_text()), (Some(2), Some("2")));
}

#[test]
fn json_is_read_as_it_is() {
    let text = r#"{"a": [1, "b", null, {"c": "d\/\u0041", "e": []}], "f": {}, "g": "${TWO}"}"#;
    let expected = json!({ "a": [1, "b", null, { "c": "d/A", "e": [] }], "f": {}, "g": "2" });
    assert_eq!(json_of(text), expected);
}

#[test]
fn what_is_merged_does_not_win_over_what_is_given() {
    let text = "
        base: &base { a: 1, b: 2 }
        more: &more { b: 3, c: 4 }
        one: { <<: *base, b: 5 }
        two: { b: 6, <<: [*more, *base] }
        list: [*base]
    ";
    let merged = json_of(text);
    assert_eq!(merged["one"], json!({ "a": 1, "b": 5 }));
    assert_eq!(merged["two"], json!({ "a": 1, "b": 6, "c": 4 }));
    assert_eq!(merged["list"], json!([{ "a": 1, "b": 2 }]));
}

#[test]
fn nodes_have_the_lines_of_their_keys() {
    let node = read("a:\n  - b: 1\n    c:\n      d\n").expect("a map");
    let positions = crate::Positions::new(Origins::one(Arc::from("f")), node);
    for (path, line) in [
        ("a", 1),
        ("a[0]", 2),
        ("a[0].b", 2),
        ("a[0].c", 3),
        ("a[9]", 1),
        ("z", 1),
    ] {
        assert_eq!(positions.line(path), line, "{path}");
    }
    let odd = read("a: 1\n\"b \\\"c\": { d: 1,\n e: 2 }\n").expect("a map");
    let path = key_path(&key_path("", "b \"c"), "e");
    assert_eq!(
        crate::Positions::new(Origins::one(Arc::from("f")), odd).line(&path),
        3,
        "{path}"
    );
}

#[test]
fn deep_and_multiplying_texts_are_refused_at_once() {
    let deep = "[".repeat(70);
    let laughs = (1..40).fold("a0: &a0 [lol, lol]\n".to_owned(), |text, n| {
        format!("{text}a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1)
    });
    let chain = (1..70).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        format!("{text}a{n}: &a{n} [*a{}]\n", n - 1)
    });
    let wide = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1 << 20),
        "*a, ".repeat(1 << 10)
    );
    for (text, part) in [
        (deep, "nested deeper than 64"),
        (laughs, "multiply the text too much"),
        (chain, "multiply the text too much"),
        (wide, "multiply the text too much"),
        ("a: ".repeat(2 << 20), "longer than 4 MiB"),
        ("a: *b".to_owned(), "this is not YAML"),
        ("a: \u{0}".to_owned(), "f:"),
    ] {
        let started = tokio::time::Instant::now();
        let why = read(&text).expect_err("it was taken");
        assert!(why.contains(part), "{why}");
        assert!(
            started.elapsed().as_secs() < 5,
            "{part} took {:?}",
            started.elapsed()
        );
    }
}
