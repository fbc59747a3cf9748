#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use proptest::prelude::*;

/// The template, written back from what was parsed.
fn shape(text: &str) -> String {
    let template = Template::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let segment = |s: &Segment| match s {
        Segment::Literal(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Segment::One => "*".into(),
        Segment::Rest => "**".into(),
    };
    let segments: Vec<String> = template.segments.iter().map(segment).collect();
    let variables: Vec<String> = template
        .variables
        .iter()
        .map(|v| {
            let kind = if v.multi { " multi" } else { "" };
            format!("{}={}..{}{kind}", v.name(), v.start, v.end)
        })
        .collect();
    let verb = template.verb.as_deref().map(String::from_utf8_lossy);
    let verb = verb.map(|v| format!(" :{v}")).unwrap_or_default();
    format!("{}{verb} [{}]", segments.join("|"), variables.join(", "))
}

#[test]
fn the_grammar_of_http_proto() {
    let cases = [
        ("/", " []"),
        ("/v1", "v1 []"),
        ("/v1/*", "v1|* []"),
        ("/v1/**", "v1|** []"),
        ("/**", "** []"),
        ("/v1/{name}", "v1|* [name=1..2]"),
        ("/v1/{name=*}", "v1|* [name=1..2]"),
        ("/v1/{name=**}", "v1|** [name=1..2 multi]"),
        ("/v1/{name=messages/*}", "v1|messages|* [name=1..3 multi]"),
        ("/v1/{name=fixed}", "v1|fixed [name=1..2]"),
        ("/{a.b_2.c}/x", "*|x [a.b_2.c=0..1]"),
        (
            "/v1/{book.name=shelves/*/books/*}",
            "v1|shelves|*|books|* [book.name=1..5 multi]",
        ),
        (
            "/v1/{a=x/*}/{b=y/**}",
            "v1|x|*|y|** [a=1..3 multi, b=3..5 multi]",
        ),
        (
            "/v1/{name=shelves/*}:publish",
            "v1|shelves|* :publish [name=1..3 multi]",
        ),
        ("/v1/{name=**}:a", "v1|** :a [name=1..2 multi]"),
        ("/v1/books:search", "v1|books :search []"),
        ("/v1/*:x", "v1|* :x []"),
        ("/v1/a:b/c", "v1|a:b|c []"),
        ("/v1/a:b:c", "v1|a:b :c []"),
        ("/v1/{n=a:b/*}", "v1|a:b|* [n=1..3 multi]"),
        ("/a=b/c", "a=b|c []"),
        ("/v1/sh%65lves/a%2Fb", "v1|shelves|a/b []"),
        ("/caf\u{e9}", "caf\u{e9} []"),
        ("/pkg.Service/Method", "pkg.Service|Method []"),
    ];
    for (text, want) in cases {
        assert_eq!(shape(text), want, "{text}");
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    let cases = [
        ("", 1, "starts with `/`"),
        ("v1/x", 1, "starts with `/`"),
        ("//", 2, "cannot be empty"),
        ("/v1//x", 5, "cannot be empty"),
        ("/v1/", 5, "cannot be empty"),
        ("/v1/:verb", 5, "cannot be empty"),
        ("/v1/{name", 5, "never closed"),
        ("/v1/{name=a/*", 5, "never closed"),
        ("/v1/name}", 9, "`}` without"),
        ("/v1/{}", 6, "name of a field"),
        ("/v1/{a..b}", 8, "name of a field"),
        ("/v1/{a.}", 8, "name of a field"),
        ("/v1/{1a}", 6, "digit"),
        ("/v1/{a-b}", 7, "expected `}`, not `-`"),
        ("/v1/{a={b}}", 8, "another variable"),
        ("/v1/{a=x/{b}}", 10, "another variable"),
        ("/v1/{a=}", 8, "cannot be empty"),
        ("/v1/{a=x/}", 10, "cannot be empty"),
        ("/v1/**/x", 8, "follow `**`"),
        ("/v1/{a=**}/x", 12, "follow `**`"),
        ("/v1/{a=**/x}", 11, "follow `**`"),
        ("/v1/***", 5, "only `*` and `**`"),
        ("/v1/x*", 6, "part of one"),
        ("/v1/*x", 6, "part of one"),
        ("/v1/x{a}", 6, "part of one"),
        ("/v1/{a}x", 8, "expected `/`, `:` or the end, not `x`"),
        ("/v1/{a}/{a}", 9, "`a` is bound twice"),
        ("/v1/{a}:", 9, "expected a verb"),
        ("/v1/x:", 7, "expected a verb"),
        ("/v1/{a}:b:c", 10, "verb cannot hold `:`"),
        ("/v1/{a}:b/c", 10, "verb cannot hold `/`"),
        ("/v1/x?y=1", 6, "without a query"),
        ("/v1/a b", 6, "expected `/`"),
        ("/v1/%zz", 5, "two hexadecimal digits"),
        ("/\u{e9}/{a", 4, "never closed"),
    ];
    for (text, at, why) in cases {
        let error = Template::parse(text).expect_err(text);
        assert_eq!(error.at, at, "{error}");
        assert!(error.why.contains(why), "{text}: {error}");
    }
}

#[test]
fn an_exact_path_has_no_syntax() {
    let template = Template::exact("/a/{b}/**:v%3Aw");
    assert_eq!(template.segments.len(), 3);
    assert_eq!(
        template.segments[1],
        Segment::Literal(b"{b}".as_slice().into())
    );
    assert_eq!(template.verb.as_deref(), Some(b"v:w".as_slice()));
    assert!(template.variables().is_empty());
}

#[test]
fn the_verb_is_split_at_the_last_colon_of_the_last_segment() {
    assert_eq!(split_verb("/a/b"), ("/a/b", None));
    assert_eq!(split_verb("/a:b/c"), ("/a:b/c", None));
    assert_eq!(split_verb("/a:b/c:d:e"), ("/a:b/c:d", Some("e")));
    assert_eq!(split_verb("/a:"), ("/a", Some("")));
    assert_eq!(split_verb(":"), ("", Some("")));
    assert_eq!(split_verb(""), ("", None));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[/a{}=*.:%2é? ]{0,24}|\\PC{0,20}") {
        match Template::parse(&text) {
            Ok(template) => prop_assert_eq!(template.text(), text.as_str()),
            Err(error) => prop_assert!(error.at >= 1 && error.at <= text.chars().count() + 1),
        }
        Template::exact(&text);
    }
}
