//! What policies become: their defaults, what a part of one keeps, and that secrets in them are never shown.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;

use mesh_config::model::{
    Abort, Action, AdaptiveConcurrency, Breaker, Canary, Cluster, ConditionField, Delay,
    FieldCondition, HashOn, Hedge, HedgeAfter, OutlierDetection, Overload, Priority, RateKey,
    RateStore, Redirect, Retry, RetryBudget, RetryOn, Rewrite, Route, Share, ValueMatch, WhenAway,
};
use mesh_config::{Snapshot, Status, parse_with};
use proptest::prelude::*;

fn read(text: &str) -> Result<Snapshot, String> {
    let environment = |name: &str| (name == "PASSWORD").then(|| "s3cret".to_owned());
    parse_with(text, Path::new("."), "mesh.yaml", &environment)
        .map_err(|problems| problems.to_string())
}

/// The one cluster of a file, with further keys.
fn cluster(keys: &str) -> Result<Cluster, String> {
    let snapshot = read(&format!(
        "clusters: [{{ name: a, protocol: grpc, endpoints: {{ static: [\"a:1\"] }}, {keys} }}]
routes: [{{ name: r, transcode: {{ services: [a.B] }}, to: a }}]"
    ))?;
    Ok(Cluster::clone(&snapshot.clusters[0]))
}

/// A route with further keys, and the clusters `a`, `b` (gRPC) and `old` (HTTP).
fn route(keys: &str) -> Result<Route, String> {
    let snapshot = read(&format!(
        "clusters:
  - {{ name: a, protocol: grpc, endpoints: {{ static: [\"a:1\"] }} }}
  - {{ name: b, protocol: grpc, endpoints: {{ static: [\"b:1\"] }} }}
  - {{ name: old, protocol: http1, endpoints: {{ static: [\"c:1\"] }} }}
routes:
  - {{ name: r, match: {{ path_prefix: /v1 }}, {keys} }}"
    ))?;
    Ok(Route::clone(&snapshot.routes[0]))
}

fn transcoded(keys: &str) -> Route {
    route(&format!("transcode: {{ services: [a.B] }}, {keys}"))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn percent(text: &str) -> Share {
    cluster(&format!("panic_threshold: {text}"))
        .expect(text)
        .panic_threshold
}

#[test]
fn what_is_not_given_is_off_but_for_what_always_holds() {
    let cluster = cluster("").expect("a cluster");
    assert_eq!(cluster.panic_threshold.ratio(), 0.5);
    assert_eq!(cluster.retry_budget, RetryBudget::default());
    assert_eq!(cluster.limits.retries, 64);
    assert_eq!(
        (
            cluster.breaker,
            cluster.outlier_detection,
            cluster.adaptive_concurrency
        ),
        (None, None, None)
    );

    let route = transcoded("to: a");
    assert_eq!(route.destinations.only().expect("one").as_str(), "a");
    assert!(route.retry.is_none() && route.hedge.is_none() && route.rate_limit.is_none());
    assert!(route.canary.is_none() && route.mirror.is_none() && route.fault.is_none());
    assert!(route.fallback.is_empty() && route.rewrite.is_none() && route.hash_on.is_none());
    assert!(route.request_headers.is_empty() && route.response_headers.is_empty());
    assert_eq!(route.priority, Priority::Normal);
}

#[test]
fn an_empty_map_has_every_default() {
    let cluster = cluster(
        "breaker: {}, outlier_detection: {}, retry_budget: {}, adaptive_concurrency: { enabled: true }",
    )
    .expect("a cluster");
    assert_eq!(cluster.breaker, Some(Breaker::default()));
    assert_eq!(cluster.outlier_detection, Some(OutlierDetection::default()));
    assert_eq!(cluster.retry_budget, RetryBudget::default());
    let AdaptiveConcurrency { min, max } = cluster.adaptive_concurrency.expect("it is on");
    assert_eq!((min.get(), max), (8, cluster.limits.requests));

    let route = transcoded("to: a, retry: {}, hedge: {}");
    assert_eq!(route.retry, Some(Retry::default()));
    assert_eq!(route.hedge, Some(Hedge::default()));
}

#[test]
fn a_part_of_a_map_keeps_the_other_defaults() {
    let cluster = cluster(
        "breaker: { hold: 90s }, outlier_detection: { base_ejection: 10m, latency: true, success_rate: false },
         retry_budget: { ratio: 0% }, limits: { requests: 4 }, adaptive_concurrency: { enabled: true }",
    )
    .expect("a cluster");
    let breaker = cluster.breaker.expect("a breaker");
    let (hold, max_hold) = (breaker.hold.to_string(), breaker.max_hold.to_string());
    assert_eq!(
        (hold.as_str(), max_hold.as_str()),
        ("90s", "90s"),
        "a default gives way to what is written"
    );
    assert_eq!(
        Breaker {
            hold: Breaker::default().hold,
            max_hold: Breaker::default().max_hold,
            ..breaker
        },
        Breaker::default()
    );
    let outliers = cluster.outlier_detection.expect("outlier detection");
    assert!(outliers.latency && !outliers.success_rate);
    assert_eq!(outliers.max_ejection, outliers.base_ejection);
    assert_eq!(outliers.consecutive_failures.get(), 5);
    assert_eq!(cluster.retry_budget.ratio, Share::ZERO);
    assert_eq!(cluster.retry_budget.min_per_second, 3);
    let adaptive = cluster.adaptive_concurrency.expect("it is on");
    assert_eq!((adaptive.min.get(), adaptive.max.get()), (4, 4));

    let retry = transcoded("to: a, retry: { attempts: 2, backoff: { base: 3s } }")
        .retry
        .expect("retries");
    assert_eq!((retry.attempts.get(), retry.on), (2, RetryOn::default()));
    assert_eq!(retry.backoff.max, retry.backoff.base);
}

#[test]
fn adaptive_concurrency_is_off_unless_enabled() {
    let off = cluster("adaptive_concurrency: { enabled: false, min: 2 }").expect("a cluster");
    assert_eq!(off.adaptive_concurrency, None);
}

#[test]
fn what_is_retried_is_a_set_of_words() {
    let retry = transcoded(
        "to: a, retry: { on: [\"503\", reset, timeout, resource_exhausted, \"429\", unavailable], \
         dedupe: Idempotency-Key, unsafe: true }",
    );
    let retry = retry.retry.expect("retries");
    assert_eq!(
        retry.on,
        RetryOn {
            reset: true,
            timeout: true,
            grpc: 1 << 8 | 1 << 14,
            http: vec![429, 503],
            ..RetryOn::NONE
        }
    );
    assert_eq!(retry.dedupe.as_deref(), Some("idempotency-key"));
    assert!(retry.unsafe_methods);
}

#[test]
fn requests_are_split_by_weight_and_a_canary_may_be_one_side() {
    let route = transcoded(
        "weighted: [{ cluster: a, weight: 95 }, { cluster: b, weight: 0 }, { cluster: old, weight: 5 }],
         hash_on: { cookie: sid }, canary: { cluster: b, max_p99_over: 150%, max_error_ratio_over: 0.5% },
         mirror: { cluster: old }, fallback: [old, a]",
    );
    let weights: Vec<(&str, u32)> = route
        .destinations
        .iter()
        .map(|side| (side.cluster.as_str(), side.weight))
        .collect();
    assert_eq!(weights, [("a", 95), ("b", 0), ("old", 5)]);
    assert_eq!(route.destinations.total_weight(), 100);
    assert_eq!(route.destinations.only(), None);
    assert_eq!(route.hash_on, Some(HashOn::Cookie("sid".to_owned())));
    let canary = route.canary.as_ref().expect("a canary");
    assert_eq!(canary.max_p99_over.expect("a margin").ratio(), 1.5);
    assert_eq!(canary.max_error_ratio_over, Some(percent("0.5%")));
    assert_eq!(canary.min_requests, Canary::DEFAULT_MIN_REQUESTS);
    let clusters: Vec<&str> = route.clusters().map(|name| name.as_str()).collect();
    assert_eq!(clusters, ["a", "b", "old", "b", "old", "old", "a"]);
}

#[test]
fn a_canary_may_have_a_share_or_be_asked_for() {
    let route = transcoded(
        "to: a, hash_on: address, canary: { cluster: b, share: 10%, header: { X-Canary: yes }, \
         cookie: { Beta: { present: true } } }",
    );
    let canary = route.canary.expect("a canary");
    assert_eq!(canary.share, Some(percent("10%")));
    let condition = |field, value| FieldCondition { field, value };
    assert_eq!(
        canary.when,
        [
            condition(
                ConditionField::Header("x-canary".to_owned()),
                ValueMatch::Exact("yes".to_owned())
            ),
            condition(
                ConditionField::Cookie("Beta".to_owned()),
                ValueMatch::Present
            ),
        ]
    );
    let asked_for = transcoded("to: a, canary: { cluster: old, header: { x-canary: \"1\" } }");
    assert_eq!(asked_for.canary.expect("a canary").share, None);
}

#[test]
fn copies_are_taken_of_all_requests_and_not_compared() {
    let mirror = transcoded("to: a, mirror: { cluster: old }")
        .mirror
        .expect("a mirror");
    assert_eq!(mirror.share, Share::ALL);
    assert!(!mirror.compare && !mirror.unsafe_methods && mirror.ignore.is_empty());
    let mirror = transcoded(
        "to: a, mirror: { cluster: old, share: 0%, compare: true, ignore: [data.timestamp, items.*.id], unsafe: true }",
    );
    let mirror = mirror.mirror.expect("a mirror");
    assert!(mirror.share.is_zero() && mirror.compare && mirror.unsafe_methods);
    assert_eq!(mirror.ignore, ["data.timestamp", "items.*.id"]);
}

#[test]
fn a_rate_limit_holds_its_requests_at_once_unless_it_says_otherwise() {
    let limit = transcoded("to: a, rate_limit: { requests: 100, per: 1m }")
        .rate_limit
        .expect("a limit");
    assert_eq!(
        (limit.burst, limit.per.to_string()),
        (limit.requests, "1m".to_owned())
    );
    assert!(limit.key.is_empty());
    assert_eq!(
        (limit.store, limit.when_away),
        (RateStore::Local, WhenAway::Local)
    );

    let limit = transcoded(
        "to: a, rate_limit: { requests: 1, per: 1s, burst: 3, key: [address, \"header:X-Key\", \"path:book.id\"],
         store: \"redis://:${PASSWORD}@r:1/2\", when_away: refuse }",
    );
    let limit = limit.rate_limit.expect("a limit");
    assert_eq!(limit.burst.get(), 3);
    let shown: Vec<String> = limit.key.iter().map(RateKey::to_string).collect();
    assert_eq!(shown, ["address", "header:x-key", "path:book.id"]);
    assert_eq!(limit.when_away, WhenAway::Refuse);
    let RateStore::Redis(url) = limit.store else {
        panic!("not a Redis");
    };
    assert_eq!(
        (url.expose(), url.to_string().as_str()),
        ("redis://:s3cret@r:1/2", "redis://r:1")
    );
}

#[test]
fn requests_are_shaped() {
    let route = route(
        "to: old, rewrite: { path_prefix: /v2, host: Old.internal:8080 }, priority: high, \
         request_headers: { set: { X-A: a }, add: { x-b: b }, remove: [Cookie] }, \
         response_headers: { remove: [server] }, \
         fault: { delay: { duration: 200ms }, abort: { status: 503, share: 1% }, header: X-Fault }",
    )
    .expect("a route");
    let rewrite = Rewrite {
        path_prefix: Some("/v2".to_owned()),
        host: Some("old.internal:8080".to_owned()),
    };
    assert_eq!(route.rewrite, Some(rewrite));
    assert_eq!(route.priority, Priority::High);
    let pair = |a: &str, b: &str| vec![(a.to_owned(), b.to_owned())];
    assert_eq!(route.request_headers.set, pair("x-a", "a"));
    assert_eq!(route.request_headers.add, pair("x-b", "b"));
    assert_eq!(route.request_headers.remove, ["cookie"]);
    assert_eq!(route.response_headers.remove, ["server"]);
    let fault = route.fault.expect("a fault");
    let Some(Delay { duration, share }) = fault.delay else {
        panic!("no delay");
    };
    assert_eq!(
        (duration.to_string().as_str(), share),
        ("200ms", Share::ALL)
    );
    let abort = Abort {
        status: 503,
        share: percent("1%"),
    };
    assert_eq!(
        (fault.abort, fault.header.as_deref()),
        (Some(abort), Some("x-fault"))
    );
}

#[test]
fn a_redirect_goes_nowhere_in_the_mesh() {
    let route =
        route("redirect: { status: 308, scheme: https, host: \"[::1]\", path_prefix: /v2 }")
            .expect("a route");
    assert_eq!(
        (route.destinations.first(), route.clusters().count()),
        (None, 0)
    );
    assert_eq!(
        route.action,
        Action::Redirect(Redirect {
            status: 308,
            scheme: Some("https".to_owned()),
            host: Some("[::1]".to_owned()),
            path: None,
            path_prefix: Some("/v2".to_owned()),
        })
    );
}

#[test]
fn overload_is_looked_at_in_parts() {
    let snapshot = read(
        "overload: { memory: 512MiB, connections: 90% }
clusters: [{ name: a, protocol: http1, endpoints: { static: [\"a:1\"] } }]
routes: [{ name: r, match: { path: / }, to: a }]",
    )
    .expect("a configuration");
    let Overload {
        memory,
        loop_lag,
        connections,
    } = snapshot.overload;
    assert_eq!(memory.expect("a size").to_string(), "512MiB");
    assert_eq!((loop_lag, connections), (None, Some(percent("90%"))));
}

#[test]
fn secrets_are_in_the_model_and_nowhere_else() {
    let text = "
clusters: [{ name: a, protocol: http1, endpoints: { static: [\"a:1\"] } }]
routes:
  - name: r
    match: { path: / }
    to: a
    rate_limit: { requests: 1, per: 1s, store: \"redis://me:${PASSWORD}@r:1\" }
    request_headers: { set: { authorization: \"Bearer ${PASSWORD}\" } }
";
    let snapshot = Arc::new(read(text).expect("a configuration"));
    let (_, password) = &snapshot.routes[0].request_headers.set[0];
    assert_eq!(password, "Bearer s3cret");
    let shown = format!("{snapshot:?}{}", Status::fixed(&snapshot).load().json());
    assert!(!shown.contains("s3cret"), "{shown}");

    for broken in [
        text.replace("@r:1", "@r:1/x"),
        text.replace("redis://", "http://"),
        text.replace("@r:1", ""),
        text.replace("Bearer ", "Bearer\\n"),
        text.replace("me:${PASSWORD}@r:1", "${PASSWORD"),
        text.replace(
            "store: \"redis://me:${PASSWORD}@r:1\"",
            "store: { url: \"${PASSWORD}\" }",
        ),
        text.replace(
            "authorization: \"Bearer ${PASSWORD}\"",
            "host: \"${PASSWORD}\"",
        ),
    ] {
        let problems = read(&broken).expect_err(&broken);
        assert!(!problems.contains("s3cret"), "{problems}");
    }
}

fn word() -> impl Strategy<Value = String> {
    let events = ["connect", "reset", "timeout", "refused_stream"];
    let words = events
        .into_iter()
        .chain(RetryOn::GRPC_CODES.into_iter().skip(1));
    let words = prop::sample::select(words.map(str::to_owned).collect::<Vec<_>>());
    prop_oneof![
        words,
        (400..600_u16).prop_map(|status| format!("\"{status}\""))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_retried_reads_as_it_prints(words in prop::collection::btree_set(word(), 1..8)) {
        let words: Vec<String> = words.into_iter().collect();
        let on = transcoded(&format!("to: a, retry: {{ on: [{}] }}", words.join(", ")));
        let on = on.retry.expect("retries").on;
        for word in &words {
            prop_assert!(on.to_string().contains(word), "{} in {}", word, on);
        }
        let again = transcoded(&format!("to: a, retry: {{ on: {on} }}"));
        prop_assert_eq!(again.retry.expect("retries").on, on);
    }

    #[test]
    fn hedges_read_as_they_print(millionths in 1..1_000_000_u32) {
        let whole = millionths / 10_000;
        let text = format!("p{whole}.{:04}", millionths % 10_000);
        let after = |text: &str| transcoded(&format!("to: a, hedge: {{ after: {text} }}")).hedge;
        let hedge = after(&text).expect("a hedge");
        let HedgeAfter::Quantile(share) = hedge.after else {
            panic!("{text} is a time");
        };
        prop_assert_eq!(share.millionths(), millionths);
        prop_assert_eq!(after(&hedge.after.to_string()), Some(hedge));
    }

    /// Whatever is written for a scalar of a policy is taken, or refused with its line and path.
    #[test]
    fn any_scalar_is_taken_or_refused_at_its_place(
        key in prop::sample::select(vec![
            "retry: { attempts: X }", "retry: { on: [X] }", "retry: { dedupe: X }", "retry: { backoff: { base: X } }",
            "hedge: { after: X }", "hedge: { max: X }", "hash_on: { header: X }", "hash_on: { path: X }",
            "mirror: { cluster: old, share: X }", "mirror: { cluster: old, compare: true, ignore: [X] }",
            "rate_limit: { requests: X, per: 1s }", "rate_limit: { requests: 1, per: X }",
            "rate_limit: { requests: 1, per: 1s, key: [X] }", "rate_limit: { requests: 1, per: 1s, store: X }",
            "canary: { cluster: old, max_p99_over: X }", "fault: { abort: { status: X } }", "rewrite: { host: X }",
            "request_headers: { set: { x-a: X } }", "response_headers: { remove: [X] }", "fallback: [X]",
        ]),
        value in "[a-z0-9%:./@-]{0,10}|p[0-9.]{1,4}|[0-9.]{1,4}%|\\PC{1,6}",
    ) {
        let quoted = serde_json::Value::from(value).to_string();
        let keys = key.replace('X', &quoted);
        let read = route(&format!("transcode: {{ services: [a.B] }}, to: a, {keys}"));
        if let Err(problems) = read {
            let path = key.split(':').next().expect("a key");
            for problem in problems.lines() {
                prop_assert!(problem.starts_with(&format!("mesh.yaml:6: routes[0].{path}")), "{}", problem);
            }
        }
    }
}
