//! The reference in `docs/configuration.md` says what the code does.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Display;
use std::path::Path;

use super::*;
use crate::model::{
    AdaptiveConcurrency, Admin, Breaker, Canary, Cluster, Connections, EdgeLimits, HealthCheck,
    Hedge, Limits, LoadBalancing, OutlierDetection, Priority, RateStore, Redirect, Retry,
    RetryBackoff, RetryBudget, Route, Share, Transcode, WhenAway,
};
use crate::{parse_with, problems_text};

const REFERENCE: &str = include_str!("../../../docs/configuration.md");

/// The cells of the tables of a section: key, default, what.
fn rows(section: &Section) -> Vec<[&'static str; 3]> {
    let heading = match section.path {
        "" => "## Top level".to_owned(),
        path => format!("# `{path}`"),
    };
    let start = REFERENCE
        .match_indices(&heading)
        .find(|(at, _)| REFERENCE[at + heading.len()..].starts_with('\n'))
        .map_or_else(
            || panic!("no heading `{heading}`"),
            |(at, _)| at + heading.len(),
        );
    REFERENCE[start..]
        .lines()
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let cells: Vec<&str> = line
                .strip_prefix("| `")?
                .splitn(4, '|')
                .map(str::trim)
                .collect();
            Some([cells[0].trim_end_matches('`'), cells[1], cells[2]])
        })
        .collect()
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    for section in SECTIONS {
        let documented: Vec<(&str, Support)> = rows(section)
            .into_iter()
            .map(|[key, _, what]| match what {
                "*not in this version*" => (key, Support::Later),
                _ => (key, Support::Now),
            })
            .collect();
        let known: Vec<(&str, Support)> = section
            .keys
            .iter()
            .map(|key| (key.name, key.support))
            .collect();
        assert_eq!(documented, known, "section `{}`", section.path);
    }
}

/// As it is or as a comment.
#[test]
fn the_example_shows_every_key_of_clusters_and_routes() {
    let example = include_str!("../../examples/mesh.yaml");
    for section in [&CLUSTER, &CLUSTER_LIMITS, &ROUTE, &RETRY, &OVERLOAD] {
        for key in section.names() {
            let shown = example.match_indices(&format!("{key}:")).any(|(at, _)| {
                let before = example[..at].chars().next_back();
                before.is_none_or(|before| !before.is_ascii_alphanumeric() && before != '_')
            });
            assert!(shown, "{}.{key} is not in the example", section.path);
        }
    }
}

fn assert_defaults(section: &Section, defaults: &[(&str, &dyn Display)]) {
    let rows = rows(section);
    for (key, default) in defaults {
        let row = rows.iter().find(|row| row[0] == *key);
        let expected = format!("`{default}`");
        assert_eq!(
            row.map(|row| row[1]),
            Some(expected.as_str()),
            "{}.{key}",
            section.path
        );
    }
}

#[test]
fn the_reference_has_the_defaults_of_listeners() {
    let limits = EdgeLimits::default();
    assert_defaults(
        &LISTENER_LIMITS,
        &[
            ("header_timeout", &limits.header_timeout),
            ("body_timeout", &limits.body_timeout),
            ("write_timeout", &limits.write_timeout),
            ("idle_timeout", &limits.idle_timeout),
            ("max_header_bytes", &limits.max_header_bytes),
            ("max_headers", &limits.max_headers),
            ("max_uri", &limits.max_uri),
            ("max_body", &limits.max_body),
            ("max_connections", &limits.max_connections),
            ("max_streams", &limits.max_streams),
        ],
    );
    assert_defaults(&ROOT, &[("admin", &Admin::default().address)]);
}

#[test]
fn the_reference_has_the_defaults_of_clusters_and_routes() {
    let limits = Limits::default();
    assert_defaults(
        &CLUSTER_LIMITS,
        &[
            ("connections", &limits.connections),
            ("pending", &limits.pending),
            ("requests", &limits.requests),
            ("retries", &limits.retries),
        ],
    );
    let balancing = LoadBalancing::default();
    assert_defaults(
        &LOAD_BALANCING,
        &[
            ("ring_points", &balancing.ring_points),
            ("table_size", &balancing.table_size),
            ("locality", &balancing.locality.as_str()),
        ],
    );
    assert_defaults(
        &CLUSTER,
        &[
            ("connect_timeout", &crate::section::cluster::CONNECT_TIMEOUT),
            ("panic_threshold", &Cluster::DEFAULT_PANIC_THRESHOLD),
        ],
    );
    assert_defaults(
        &ROUTE,
        &[
            ("timeout", &Route::DEFAULT_TIMEOUT),
            ("priority", &Priority::default().as_str()),
        ],
    );
    assert_defaults(&TRANSCODE, &[("max_body", &Transcode::DEFAULT_MAX_BODY)]);
}

#[test]
fn the_reference_has_the_defaults_of_what_guards_a_cluster() {
    let budget = RetryBudget::default();
    assert_defaults(
        &RETRY_BUDGET,
        &[
            ("ratio", &budget.ratio),
            ("min_per_second", &budget.min_per_second),
        ],
    );
    let breaker = Breaker::default();
    assert_defaults(
        &BREAKER,
        &[
            ("window", &breaker.window),
            ("min_requests", &breaker.min_requests),
            ("failure_ratio", &breaker.failure_ratio),
            ("slow_call", &breaker.slow_call),
            ("slow_ratio", &breaker.slow_ratio),
            ("hold", &breaker.hold),
            ("max_hold", &breaker.max_hold),
            ("probes", &breaker.probes),
        ],
    );
    let outliers = OutlierDetection::default();
    assert_defaults(
        &OUTLIER_DETECTION,
        &[
            ("consecutive_failures", &outliers.consecutive_failures),
            ("success_rate", &outliers.success_rate),
            ("latency", &outliers.latency),
            ("interval", &outliers.interval),
            ("base_ejection", &outliers.base_ejection),
            ("max_ejection", &outliers.max_ejection),
            ("max_ejected", &outliers.max_ejected),
        ],
    );
    assert_defaults(
        &ADAPTIVE_CONCURRENCY,
        &[("min", &AdaptiveConcurrency::DEFAULT_MIN)],
    );
    assert_defaults(
        &HEALTH_CHECK,
        &[
            ("path", &HealthCheck::DEFAULT_PATH),
            ("interval", &HealthCheck::DEFAULT_INTERVAL),
            ("timeout", &HealthCheck::DEFAULT_TIMEOUT),
            ("healthy", &HealthCheck::DEFAULT_THRESHOLD),
            ("unhealthy", &HealthCheck::DEFAULT_THRESHOLD),
        ],
    );
    assert_defaults(&CONNECTIONS, &[("warm", &Connections::default().warm)]);
}

#[test]
fn the_reference_has_the_defaults_of_what_a_route_does() {
    let retry = Retry::default();
    let RetryBackoff { base, max } = retry.backoff;
    assert_defaults(
        &RETRY,
        &[
            ("attempts", &retry.attempts),
            ("on", &retry.on),
            ("per_try_timeout", &retry.per_try_timeout),
            ("backoff", &format!("{{ base: {base}, max: {max} }}")),
            ("unsafe", &retry.unsafe_methods),
        ],
    );
    assert_defaults(&BACKOFF, &[("base", &base), ("max", &max)]);
    let hedge = Hedge::default();
    assert_defaults(&HEDGE, &[("after", &hedge.after), ("max", &hedge.max)]);
    assert_defaults(
        &RATE_LIMIT,
        &[
            ("store", &RateStore::Local),
            ("when_away", &WhenAway::default().as_str()),
        ],
    );
    assert_defaults(&CANARY, &[("min_requests", &Canary::DEFAULT_MIN_REQUESTS)]);
    assert_defaults(&REDIRECT, &[("status", &Redirect::DEFAULT_STATUS)]);
    for section in [&MIRROR, &DELAY, &ABORT] {
        assert_defaults(section, &[("share", &Share::ALL)]);
    }
}

/// A text in which nothing is right but the way to a section, and what is said about a key there.
fn said_about(section: &Section, key: &str) -> (String, String) {
    let way = section.path.replace("<name>", "x");
    let mut text = format!("{{ {key}: [{{}}] }}");
    let mut at = key.to_owned();
    for step in way.rsplit('.').filter(|step| !step.is_empty()) {
        let name = step.trim_end_matches("[]");
        let item = step.len() > name.len();
        text = if item {
            format!("{{ {name}: [{text}] }}")
        } else {
            format!("{{ {name}: {text} }}")
        };
        at = format!("{name}{}.{at}", if item { "[0]" } else { "" });
    }
    let problems = parse_with(&text, Path::new("."), "f", &|_| None).expect_err("nothing is right");
    let start = format!("f:1: {at}: ");
    let all = problems_text(&problems);
    let said = all
        .lines()
        .filter_map(|line| line.strip_prefix(&start))
        .collect::<Vec<_>>()
        .join("\n");
    (at, said)
}

#[test]
fn every_key_is_read_or_refused_by_name() {
    for section in SECTIONS {
        for key in section.keys {
            let (at, said) = said_about(section, key.name);
            match key.support {
                Support::Later => assert_eq!(said, "not in this version: remove it", "{at}"),
                Support::Now => assert!(
                    !said.contains("not in this version") && !said.contains("unknown key"),
                    "{at}: {said}"
                ),
            }
        }
        let (at, said) = said_about(section, "no_such_key");
        assert!(said.starts_with("unknown key"), "{at}: {said}");
    }
}
