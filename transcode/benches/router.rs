//! What finding a route costs with 10, 1,000 and 10,000 routes, and what a whole small request costs.
//!
//! `cargo bench -p transcode --bench router`. Nanoseconds, the best of many short rounds, so that a busy
//! machine matters little. Rows that do not differ say that the cost is independent of the number of routes.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_types, reason = "it measures real time")]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use transcode::{
    Binding, Captures, Entry, JsonChoices, PathPattern, Profile, Request, Router, RouterBuilder,
};
use transcode::{Schema, Template, Transcoder};

const ROUNDS: usize = 2_000;
const CALLS: u32 = 1_000;

fn main() {
    println!(
        "{:>8}  {:>8}  {:>8}  {:>8}  {:>8}",
        "routes", "literal", "variable", "deep", "miss"
    );
    for routes in [10, 1_000, 10_000] {
        let router = table(routes);
        let middle = routes / 2;
        let costs = [
            format!("/api/v1/service{middle}/increment"),
            format!("/api/v1/service{middle}/article_001/like"),
            format!("/api/v1/service{middle}/a/b/c/d/e:publish"),
            format!("/api/v1/service{middle}x/a/b"),
        ]
        .map(|path| nanoseconds(|| find(&router, black_box(&path)).map_or(0, |found| found.len())));
        let [literal, variable, deep, miss] = costs;
        println!("{routes:>8}  {literal:>8.1}  {variable:>8.1}  {deep:>8.1}  {miss:>8.1}");
    }
    requests();
}

/// Four entries for each service: a literal, two variables, a long pattern with a verb, a prefix.
fn table(routes: usize) -> Router<usize> {
    let mut builder = RouterBuilder::new();
    for index in 0..routes.div_ceil(4) {
        let number = index * 4;
        for offset in 0..4 {
            let service = format!("/api/v1/service{}", number + offset);
            let template = |tail: &str| {
                PathPattern::Template(Template::parse(&format!("{service}{tail}")).unwrap())
            };
            for path in [
                template("/increment"),
                template("/{resource_id}/{counter_type}"),
                template("/{name=a/*/c/*/*}:publish"),
            ] {
                builder
                    .insert(Entry {
                        hosts: vec![],
                        path,
                        conditions: 0,
                        empty_segments: false,
                        value: 0,
                    })
                    .unwrap();
            }
        }
    }
    builder.build().unwrap()
}

fn find(router: &Router<usize>, path: &str) -> Option<Captures> {
    router.find("localhost:8080", path, |_, found| {
        ControlFlow::Break(found.captures())
    })
}

fn nanoseconds(mut call: impl FnMut() -> usize) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..CALLS {
            black_box(call());
        }
        best = best.min(began.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
    best
}

/// The routes of the Phase 1 contract.
fn phase1() -> Router<Binding> {
    let set = include_bytes!("../../proto/src/generated/descriptor_set.bin");
    let schema = Arc::new(Schema::from_descriptor_sets([set.as_slice()]).unwrap());
    let phase1 = Profile::builtin("phase1").unwrap();
    let request = Request {
        services: &["counter.CounterService", "analytics.AnalyticsService"],
        profile: &phase1,
        json: JsonChoices::default(),
        unannotated: false,
    };
    let mut builder = RouterBuilder::new();
    for binding in Transcoder::new(schema).bindings(&request).unwrap() {
        let path = PathPattern::Template(binding.template.clone());
        let empty_segments = binding.empty_segments;
        builder
            .insert(Entry {
                hosts: vec![],
                path,
                conditions: 0,
                empty_segments,
                value: binding,
            })
            .unwrap();
    }
    builder.build().unwrap()
}

/// Route, captures and message for requests of the Phase 1 contract.
fn requests() {
    let router = phase1();
    let cases = [
        ("GET", "/api/v1/counter/article_001/like", None, ""),
        (
            "GET",
            "/api/v1/counter/hot/like",
            Some("limit=10&period=week"),
            "",
        ),
        (
            "POST",
            "/api/v1/counter/increment",
            None,
            r#"{"resource_id":"article_001","counter_type":"like","delta":1}"#,
        ),
    ];
    println!("\nroute + message, ns");
    for (method, path, query, body) in cases {
        let mut wire = Vec::with_capacity(4096);
        let cost = nanoseconds(|| {
            wire.clear();
            let found = router.find("localhost:8080", black_box(path), |binding, found| {
                if binding.http_method != method {
                    return ControlFlow::Continue(());
                }
                ControlFlow::Break((binding, found.captures()))
            });
            let (binding, captures) = found.expect("a route");
            binding
                .encode_request(path, &captures, query, body.as_bytes(), &mut wire)
                .expect("fits");
            wire.len()
        });
        println!(
            "{cost:>8.1}  {method} {path}{}",
            query.map(|q| format!("?{q}")).unwrap_or_default()
        );
    }
}
