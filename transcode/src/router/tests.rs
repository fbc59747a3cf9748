#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::template::Segment;
use proptest::prelude::*;

fn template(text: &str) -> PathPattern {
    PathPattern::Template(Template::parse(text).unwrap())
}

fn pattern(text: &str) -> PathPattern {
    match text.split_once(' ') {
        Some(("exact", path)) => PathPattern::Exact(path.into()),
        Some(("prefix", path)) => PathPattern::Prefix(path.into()),
        Some(("regex", path)) => PathPattern::Regex(path.into()),
        _ => template(text),
    }
}

fn router(patterns: &[&'static str]) -> Router<&'static str> {
    let mut builder = RouterBuilder::new();
    for text in patterns {
        let path = pattern(text);
        let entry = Entry {
            hosts: vec![],
            path,
            conditions: 0,
            empty_segments: false,
            value: *text,
        };
        builder.insert(entry).unwrap();
    }
    builder.build().unwrap()
}

fn all<T: Copy>(router: &Router<T>, host: &str, path: &str) -> Vec<T> {
    let mut seen = Vec::new();
    let stopped: Option<()> = router.find(host, path, |value, _| {
        seen.push(*value);
        ControlFlow::Continue(())
    });
    assert!(stopped.is_none());
    seen
}

#[test]
fn literal_before_variable_before_rest_before_regex() {
    let router = router(&[
        "regex /v1/.*",
        "prefix /",
        "/v1/**",
        "/v1/{a}/{b}",
        "/v1/{a}/x",
        "/v1/hot/{b}",
        "/v1/hot/x",
        "prefix /v1/hot/",
        "exact /v1/hot/x",
    ]);
    assert_eq!(
        all(&router, "", "/v1/hot/x"),
        [
            "/v1/hot/x",
            "exact /v1/hot/x",
            "/v1/hot/{b}",
            "prefix /v1/hot/",
            "/v1/{a}/x",
            "/v1/{a}/{b}",
            "/v1/**",
            "prefix /",
            "regex /v1/.*"
        ]
    );
    assert_eq!(all(&router, "", "/v1"), ["/v1/**", "prefix /"]);
    assert_eq!(all(&router, "", "/"), ["prefix /"]);
    assert!(all(&router, "", "*").is_empty());
    assert!(all(&router, "", "").is_empty());
}

#[test]
fn prefixes_end_at_a_slash() {
    let router = router(&["prefix /a/b", "prefix /a/b/", "prefix /a:b"]);
    assert_eq!(all(&router, "", "/a/b"), ["prefix /a/b"]);
    assert_eq!(all(&router, "", "/a/b/"), ["prefix /a/b", "prefix /a/b/"]);
    assert_eq!(
        all(&router, "", "/a/b/c/d"),
        ["prefix /a/b", "prefix /a/b/"]
    );
    assert!(all(&router, "", "/a/bc").is_empty());
    assert_eq!(all(&router, "", "/a:b"), ["prefix /a:b"]);
    assert_eq!(all(&router, "", "/a:b/c"), ["prefix /a:b"]);
}

#[test]
fn verbs_are_tried_before_the_whole_segment() {
    let router = router(&[
        "/v1/{n}",
        "/v1/{n}:go",
        "/v1/x:go",
        "/v1/**:go",
        "/v1/**",
        "exact /v1/x:go",
    ]);
    assert_eq!(
        all(&router, "", "/v1/x:go"),
        [
            "/v1/x:go",
            "exact /v1/x:go",
            "/v1/{n}:go",
            "/v1/{n}",
            "/v1/**:go",
            "/v1/**"
        ]
    );
    assert_eq!(all(&router, "", "/v1/x:stop"), ["/v1/{n}", "/v1/**"]);
    assert_eq!(all(&router, "", "/v1:go"), ["/v1/**:go"]);
    assert_eq!(
        all(&router, "", "/v1/:go"),
        ["/v1/{n}", "/v1/**:go", "/v1/**"]
    );
    // An encoded colon is data.
    assert_eq!(all(&router, "", "/v1/x%3Ago"), ["/v1/{n}", "/v1/**"]);
}

#[test]
fn captures_are_ranges_of_the_raw_path() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("/v1/{a}/{b}", "/v1/x%2Fy/z", &["x%2Fy", "z"]),
        (
            "/v1/{name=shelves/*/books/*}",
            "/v1/shelves/1/books/2",
            &["shelves/1/books/2"],
        ),
        (
            "/v1/{name=shelves/*}:go",
            "/v1/shelves/1:go",
            &["shelves/1"],
        ),
        ("/v1/{a=**}", "/v1/x/y/", &["x/y/"]),
        ("/v1/{a=**}", "/v1/", &[""]),
        ("/v1/{a=**}", "/v1", &[""]),
        ("/v1/{a=**}:go", "/v1/x/y:go", &["x/y"]),
        ("/v1/{a=**}:go", "/v1:go", &[""]),
        ("/v1/{a=**}:go", "/v1/:go", &[""]),
        ("/v1/{a=x/**}", "/v1/x", &["x"]),
        ("/v1/{a=x/**}:go", "/v1/x:go", &["x"]),
        ("/v1/{a=x/*}/{b=y/**}", "/v1/x/1/y/2/3", &["x/1", "y/2/3"]),
        ("/v1/*/{b}", "/v1/x/y", &["y"]),
        ("/v1/{a}", "/v1/urn:x:y", &["urn:x:y"]),
        ("/v1/{a}:y", "/v1/urn:x:y", &["urn:x"]),
    ];
    for (text, path, want) in cases {
        let router = router(&[text]);
        let got = router.find("", path, |_, found| ControlFlow::Break(found.captures()));
        let got = got.unwrap_or_else(|| panic!("{text} does not take {path}"));
        let got: Vec<&str> = (0..got.len()).map(|i| got.raw(path, i).unwrap()).collect();
        assert_eq!(&got, want, "{text} {path}");
    }
}

#[test]
fn an_empty_segment_is_no_variable_unless_the_entry_says_so() {
    let strict = router(&["/v1/{a}/like"]);
    assert!(all(&strict, "", "/v1//like").is_empty());
    let mut builder = RouterBuilder::new();
    for (empty_segments, value) in [(false, "strict"), (true, "lenient")] {
        let path = template("/v1/{a}/{b}");
        builder
            .insert(Entry {
                hosts: vec![],
                path,
                conditions: 0,
                empty_segments,
                value,
            })
            .unwrap();
    }
    let both = builder.build().unwrap();
    assert_eq!(all(&both, "", "/v1//like"), ["lenient"]);
    assert_eq!(all(&both, "", "/v1/x/"), ["lenient"]);
    assert_eq!(all(&both, "", "/v1/x/y"), ["strict", "lenient"]);
}

#[test]
fn hosts_then_conditions_then_order() {
    let mut builder = RouterBuilder::new();
    let rows: &[(&[&str], &str, usize, &str)] = &[
        (&[], "/a", 0, "any"),
        (&["*.b.com"], "prefix /", 0, "wildcard prefix"),
        (&["x.b.com", "*.b.com"], "/a", 1, "two hosts"),
        (&[], "/a", 2, "any, 2 conditions"),
        (&["x.b.com"], "/{a}", 9, "exact, variable"),
    ];
    for (hosts, text, conditions, value) in rows {
        let hosts = hosts
            .iter()
            .map(|host| HostPattern::parse(host).unwrap())
            .collect();
        let path = pattern(text);
        let entry = Entry {
            hosts,
            path,
            conditions: *conditions,
            empty_segments: false,
            value: *value,
        };
        builder.insert(entry).unwrap();
    }
    let router = builder.build().unwrap();
    assert_eq!(
        all(&router, "X.b.com:80", "/a"),
        [
            "two hosts",
            "exact, variable",
            "two hosts",
            "wildcard prefix",
            "any, 2 conditions",
            "any"
        ]
    );
    assert_eq!(all(&router, "other", "/a"), ["any, 2 conditions", "any"]);
}

#[test]
fn encoded_literals_are_the_same_literals() {
    let router = router(&["/v1/caf%C3%A9/{a}", "/v1/a:b/x"]);
    assert_eq!(all(&router, "", "/v1/caf%c3%a9/x").len(), 1);
    assert_eq!(all(&router, "", "/%761/café/x").len(), 1);
    assert_eq!(all(&router, "", "/v1/a%3Ab/x").len(), 1);
    assert!(all(&router, "", "/v1/caf%zz/x").is_empty());
}

#[test]
fn what_cannot_be_routed_is_refused() {
    let entry = |path| Entry {
        hosts: vec![],
        path,
        conditions: 0,
        empty_segments: false,
        value: (),
    };
    let mut builder = RouterBuilder::new();
    assert!(matches!(
        builder.insert(entry(PathPattern::Prefix("a".into()))),
        Err(RouterError::Path(_))
    ));
    assert!(matches!(
        builder.insert(entry(PathPattern::Exact(String::new()))),
        Err(RouterError::Path(_))
    ));
    assert!(matches!(
        builder.insert(entry(PathPattern::Regex("(".into()))),
        Err(RouterError::Regex(_))
    ));
    assert!(
        builder
            .insert(entry(PathPattern::Regex("/a|/b".into())))
            .is_ok()
    );
    let router = builder.build().unwrap();
    assert_eq!(all(&router, "", "/b").len(), 1);
    assert!(
        all(&router, "", "/bc").is_empty(),
        "the whole path must match"
    );
}

/// What a row of the random table is: conditions, lenient, host, path.
type Row = (usize, bool, usize, String);

const HOSTS: [&str; 5] = ["*", "b.com", "*.com", "x.b.com", "*.b.com"];

/// How the naive matcher ranks a match: host, kinds of segments, no verb, conditions, position.
type Rank = (usize, Vec<u8>, bool, std::cmp::Reverse<usize>, usize);

/// The contract, read naively: every row is tried by itself.
fn naive(rows: &[Row], host: &str, path: &str) -> Vec<usize> {
    let mut ranks: Vec<Rank> = Vec::new();
    for (index, (conditions, lenient, host_index, text)) in rows.iter().enumerate() {
        let host_rank = match (*host_index, host) {
            (1, "b.com") | (3, "x.b.com") => 0,
            (4, "x.b.com") => 1,
            (2, _) if host.ends_with(".com") => 2,
            (0, _) => 3,
            _ => continue,
        };
        if let Some((kinds, verb)) = naive_path(text, path, *lenient) {
            ranks.push((
                host_rank,
                kinds,
                !verb,
                std::cmp::Reverse(*conditions),
                index,
            ));
        }
    }
    ranks.sort();
    ranks.into_iter().map(|rank| rank.4).collect()
}

/// The kinds of segments by which a pattern takes a path, and whether it used a verb.
fn naive_path(text: &str, path: &str, lenient: bool) -> Option<(Vec<u8>, bool)> {
    let (segments, verb, at_least) = match pattern(text) {
        PathPattern::Template(t) => (t.segments, t.verb, 0),
        PathPattern::Prefix(p) => {
            let inner = p.trim_start_matches('/').trim_end_matches('/');
            let words = inner.split('/').filter(|w| !w.is_empty());
            let mut segments: Vec<Segment> = words
                .map(|w| Segment::Literal(w.as_bytes().into()))
                .collect();
            segments.push(Segment::Rest);
            (segments, None, usize::from(p.ends_with('/')))
        }
        _ => unreachable!("the table holds templates and prefixes"),
    };
    let mut path = path.strip_prefix('/')?;
    if let Some(verb) = &verb {
        path = path
            .strip_suffix(std::str::from_utf8(verb).unwrap())?
            .strip_suffix(':')?;
        // The verb belongs to the last segment, which holds its last colon.
    }
    let words: Vec<&str> = path.split('/').collect();
    let mut kinds = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        match (segment, words.get(index)) {
            (Segment::Literal(text), Some(word)) if word.as_bytes() == &**text => kinds.push(0),
            (Segment::One, Some(word)) if lenient || !word.is_empty() => kinds.push(1),
            (Segment::Rest, _) => {
                let left = words.len().saturating_sub(index);
                kinds.push(2);
                return (left >= at_least).then_some((kinds, verb.is_some()));
            }
            _ => return None,
        }
    }
    (segments.len() == words.len()).then_some((kinds, verb.is_some()))
}

fn row() -> impl Strategy<Value = Row> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("*"), Just("{x}")];
    let segments = proptest::collection::vec(segment, 1..4);
    let tail = prop_oneof![4 => Just(""), 1 => Just("/**"), 1 => Just("/{r=**}")];
    let verb = prop_oneof![3 => Just(""), 1 => Just(":v"), 1 => Just(":w")];
    let template = (segments, tail, verb).prop_map(|(segments, tail, verb)| {
        let mut text = String::new();
        for (index, segment) in segments.iter().enumerate() {
            text.push('/');
            text.push_str(&segment.replace('x', &format!("x{index}")));
        }
        text + tail + verb
    });
    let prefix = prop_oneof![
        Just("prefix /"),
        Just("prefix /a"),
        Just("prefix /a/"),
        Just("prefix /a/b/")
    ];
    let path = prop_oneof![4 => template, 1 => prefix.prop_map(str::to_owned)];
    (0..3_usize, any::<bool>(), 0..HOSTS.len(), path)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_trie_agrees_with_a_naive_reading_of_the_contract(
        rows in proptest::collection::vec(row(), 1..24),
        host in prop_oneof![Just("b.com"), Just("x.b.com"), Just("y.com"), Just("other")],
        path in "(/(a|b|c|)){1,4}(:v|:w|:u|)",
    ) {
        let mut builder = RouterBuilder::new();
        for (value, (conditions, empty_segments, host, text)) in rows.iter().enumerate() {
            let hosts = vec![HostPattern::parse(HOSTS[*host]).unwrap()];
            let path = pattern(text);
            builder.insert(Entry {
                hosts, path, conditions: *conditions, empty_segments: *empty_segments, value,
            }).unwrap();
        }
        let router = builder.build().unwrap();
        prop_assert_eq!(all(&router, host, &path), naive(&rows, host, &path));
    }

    #[test]
    fn no_path_makes_a_lookup_panic(path in "\\PC{0,40}|[/:%*a2F]{0,40}", host in "\\PC{0,10}") {
        let router = router(&["/{a}/{b=**}:v", "/{a}", "prefix /", "regex .*", "/**:v", "/a/{b=*/x/**}"]);
        let seen: Option<()> = router.find(&host, &path, |_, found| {
            let captures = found.captures();
            for index in 0..captures.len() {
                assert!(captures.raw(&path, index).is_some(), "{path}: {captures:?}");
            }
            ControlFlow::Continue(())
        });
        prop_assert!(seen.is_none());
    }
}
