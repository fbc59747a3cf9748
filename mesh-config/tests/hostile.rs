//! Whatever the text, reading it ends soon, and without a panic.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use mesh_config::parse_with;
use proptest::prelude::*;
use tokio::time::Instant;

fn read(text: &str) -> Duration {
    let started = Instant::now();
    let environment = |name: &str| (name.len() == 1).then(|| name.to_lowercase());
    match parse_with(text, Path::new("/nonexistent"), "mesh.yaml", &environment) {
        Ok(snapshot) => drop(snapshot.positions.problem("routes[0].to", "x").to_string()),
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason: {text:?}");
            drop(mesh_config::problems_text(&problems));
        }
    }
    started.elapsed()
}

/// Pieces that the parser and the sections treat in their own ways.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "listeners", "address", "limits", "clusters", "name", "protocol", "grpc", "endpoints", "static", "routes",
    "match", "path_prefix", "headers", "regex", "transcode", "services", "to", "timeout", "retry", "profiles",
    "descriptors", "file", "builtin", "weight", ": ", ":\n  ", "\n", "\n- ", "\n  - ", "    ", "{", "}", "[",
    "]", ", ", "\"", "'", "|\n", ">\n", "&a ", "*a", "<<: ", "!!str ", "!x ", "---\n", "...\n", "%YAML 1.2\n",
    "? ", "# ", "\t", "\r\n", "${A}", "${AB}", "${", "$$", "5s", "0", "-1", "1e9", "4MiB", "127.0.0.1:80", "/a",
    "(", "retry", "on", "weighted", "cluster", "canary", "hash_on", "rate_limit", "store", "redis://", "@", "breaker",
    "fault", "abort", "mirror", "fallback", "set", "p95", "p", "5%", "100%", "%", "\"503\"", "\u{feff}", "\u{85}", "\u{0}", "é", "~", "true",
];

fn piece() -> impl Strategy<Value = String> {
    let known = prop::sample::select(PIECES).prop_map(str::to_owned);
    prop_oneof![known, "\\PC{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        prop_assert!(read(&text) < Duration::from_secs(5));
    }

    #[test]
    fn text_of_pieces(pieces in prop::collection::vec(piece(), 0..60)) {
        let text = pieces.concat();
        prop_assert!(read(&text) < Duration::from_secs(5), "{text:?}");
    }

    /// The example with something cut out of it and something put in.
    #[test]
    fn a_mangled_file(at in 0..3_000_usize, cut in 0..40_usize, put in piece()) {
        let mut text: Vec<char> = include_str!("../examples/mesh.yaml").chars().collect();
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, put.chars());
        let text: String = text.into_iter().collect();
        prop_assert!(read(&text) < Duration::from_secs(5), "{text:?}");
    }
}

#[test]
fn large_texts_end_too() {
    let megabyte = |piece: &str| piece.repeat((1 << 20) / piece.len());
    let route = "- {name: a, match: {path: /, hosts: [a.b, c.d]}, to: b, tiemout: 1}\n";
    let cluster =
        |n: usize| format!("- {{name: c{n}, protocol: http1, endpoints: {{static: [\"a:1\"]}}}}\n");
    let clusters: String = (0..15_000).map(cluster).collect();
    for (what, text) in [
        ("brackets", megabyte("[")),
        ("braces", megabyte("{a: ")),
        ("keys", (0..100_000).map(|n| format!("k{n}: 1\n")).collect()),
        (
            "routes",
            format!("routes:\n{}", megabyte(route).split_at(1_000_000).0),
        ),
        ("clusters", format!("clusters:\n{clusters}")),
        (
            "hosts",
            format!(
                "routes: [{{match: {{hosts: [{}]}}}}]",
                "a.b, ".repeat(200_000)
            ),
        ),
        ("quotes", megabyte("\"")),
        ("tabs", megabyte("\t")),
        ("dashes", megabyte("- ")),
        ("colons", megabyte("a: b: ")),
        ("anchors", megabyte("- &a x\n")),
        ("comments", megabyte("# x\n")),
        ("questions", megabyte("? ")),
        ("variables", format!("a: \"{}\"", "${A}".repeat(250_000))),
    ] {
        let took = read(&text);
        assert!(took < Duration::from_secs(20), "{what} took {took:?}");
        println!("{what}: {took:?}");
    }
}
