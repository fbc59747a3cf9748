//! The plan against what Consul's own discovery chain would do with the same entries.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::edge::Head;
use crate::entries::conditions::Asked;

fn known(entries: Vec<(EntryKind, &str, Value)>) -> Known {
    let entries = entries.into_iter();
    entries
        .map(|(kind, service, value)| ((kind, service.to_owned()), Some(value)))
        .collect()
}

fn plan(entries: Vec<(EntryKind, &str, Value)>) -> Plan {
    compile("web", &known(entries)).plan.expect("a plan")
}

fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Head {
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Head::of(&request.body(()).expect("a request"))
}

/// Where a request goes, and what is said of it.
fn goes(plan: &Plan, method: &str, target: &str, headers: &[(&str, &str)], point: u32) -> String {
    let head = head(method, target, headers);
    let leaf = Asked::of(&head, |asked| plan.choose(asked, point).cloned());
    let leaf = leaf.expect("somewhere");
    format!("{}{}", plan.targets[leaf.target], leaf.options)
}

fn get(plan: &Plan, path: &str) -> String {
    goes(plan, "GET", path, &[], 0)
}

const NO_SUBSETS: Value = Value::Null;

fn resolver(subsets: Value, more: Value) -> Value {
    let mut entry =
        json!({ "Kind": "service-resolver", "Name": "web", "Subsets": subsets, "ModifyIndex": 7 });
    entry
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    entry
}

fn versions() -> Value {
    json!({ "v1": { "Filter": "Service.Meta.version == v1" }, "v2": { "Filter": "Service.Meta.version == v2", "OnlyPassing": true } })
}

#[test]
fn nothing_written_changes_nothing() {
    let compiled = compile("web", &Known::new());
    let kinds: Vec<EntryKind> = compiled.asked.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(
        kinds,
        [EntryKind::Router, EntryKind::Splitter, EntryKind::Resolver]
    );
    assert!(compiled.plan.unwrap().is_trivial("web"));
    let router = json!({ "Kind": "service-router", "Name": "web", "Routes": [] });
    assert!(plan(vec![(EntryKind::Router, "web", router)]).is_trivial("web"));
}

#[test]
fn the_first_route_that_takes_a_request_counts() {
    let routes = json!({ "Kind": "service-router", "Name": "web", "Routes": [
        { "Match": { "HTTP": { "PathExact": "/exact" } }, "Destination": { "Service": "a" } },
        { "Match": { "HTTP": { "PathPrefix": "/pre", "Methods": ["put", "POST"] } }, "Destination": { "Service": "b" } },
        { "Match": { "HTTP": { "PathRegex": "/r/[0-9]+" } }, "Destination": { "Service": "c" } },
        { "Match": { "HTTP": { "PathPrefix": "/Case", "CaseInsensitive": true } }, "Destination": { "Service": "d" } },
        { "Match": { "HTTP": { "Header": [{ "Name": "X-Debug", "Exact": "1" }, { "Name": "x-off", "Present": true, "Invert": true }] } },
          "Destination": { "Service": "e" } },
        { "Match": { "HTTP": { "QueryParam": [{ "Name": "v", "Regex": "2|3" }] } }, "Destination": { "ServiceSubset": "v2" } },
    ] });
    let plan = plan(vec![
        (EntryKind::Router, "web", routes),
        (EntryKind::Resolver, "web", resolver(versions(), json!({}))),
    ]);
    for (path, to) in [
        ("/exact", "a"),
        ("/exact/", "web"),
        ("/pre/x", "web"),
        ("/r/17", "c"),
        ("/r/17/x", "web"),
        ("/cASE/x", "d"),
        ("/?a=1&v=3", "web.v2"),
        ("/?v=33", "web"),
        ("/", "web"),
    ] {
        assert_eq!(get(&plan, path), to, "{path}");
    }
    assert_eq!(goes(&plan, "PUT", "/pre/x", &[], 0), "b");
    assert_eq!(goes(&plan, "GET", "/", &[("x-debug", "1")], 0), "e");
    let off = [("x-debug", "1"), ("x-off", "")];
    assert_eq!(goes(&plan, "GET", "/", &off, 0), "web");
}

#[test]
fn shares_are_those_of_the_splitters_all_the_way_down() {
    let web = json!({ "Kind": "service-splitter", "Splits": [
        { "Weight": 75, "ServiceSubset": "v1" }, { "Weight": 25, "Service": "other" }, { "Weight": 0, "Service": "none" } ] });
    let other = json!({ "Kind": "service-splitter", "Splits": [
        { "Weight": 40 }, { "Weight": 60, "Service": "third" } ] });
    let plan = plan(vec![
        (EntryKind::Splitter, "web", web),
        (EntryKind::Splitter, "other", other),
        (EntryKind::Resolver, "web", resolver(versions(), json!({}))),
    ]);
    let mut counts = BTreeMap::new();
    for step in 0..10_000_u64 {
        let point = u32::try_from((step << 32) / 10_000).unwrap();
        *counts
            .entry(goes(&plan, "GET", "/", &[], point))
            .or_insert(0) += 1;
    }
    let of = |name: &str| counts.get(name).copied().unwrap_or_default();
    // A point at the edge of a share falls to one of two neighbours.
    for (name, expected) in [("web.v1", 7500_i32), ("other", 1000), ("third", 1500)] {
        assert!((of(name) - expected).abs() <= 1, "{name}: {counts:?}");
    }
    assert_eq!(counts.len(), 3);
}

#[test]
fn a_resolver_redirects_chooses_subsets_and_names_who_takes_over() {
    let web = resolver(
        versions(),
        json!({ "DefaultSubset": "v1", "ConnectTimeout": "250ms", "RequestTimeout": "3s",
            "Failover": { "v1": { "Datacenters": ["dc2", "dc3"] }, "*": { "Service": "spare" } },
            "LoadBalancer": { "Policy": "least_request" } }),
    );
    let spare = json!({ "Kind": "service-resolver", "Redirect": { "Service": "real", "ServiceSubset": "r", "Datacenter": "dc9" } });
    let real = json!({ "Kind": "service-resolver", "Subsets": { "r": {} } });
    let routes = json!({ "Kind": "service-router", "Routes": [
        { "Match": { "HTTP": { "PathPrefix": "/v2" } }, "Destination": { "ServiceSubset": "v2", "RequestTimeout": "1s" } } ] });
    let plan = plan(vec![
        (EntryKind::Resolver, "web", web),
        (EntryKind::Resolver, "spare", spare),
        (EntryKind::Resolver, "real", real),
        (EntryKind::Router, "web", routes),
    ]);
    assert_eq!(
        get(&plan, "/"),
        "web.v1, then web.v1@dc2, then web.v1@dc3, by least_request, timeout 3s"
    );
    assert_eq!(
        get(&plan, "/v2"),
        "web.v2, then real.r@dc9, by least_request, timeout 1s"
    );
    let first = &plan.targets[0];
    assert_eq!(first.connect_timeout, Some(Duration::from_millis(250)));
    assert!(first.to_string().contains("by least_request"), "{first}");
    assert!(
        first.places[0].only_passing,
        "of the route, which is read first"
    );
}

#[test]
fn retries_rewrites_and_header_lines_are_read() {
    let routes = json!({ "Kind": "service-router", "Routes": [
        { "Match": { "HTTP": { "PathPrefix": "/old/" } }, "Destination": {
            "PrefixRewrite": "/new/", "NumRetries": 4, "RetryOnStatusCodes": [503, 502], "RetryOn": ["unavailable", "envoy-ratelimited"],
            "RequestHeaders": { "Set": { "x-a": "1", "connection": "close" }, "Remove": ["x-b"] }, "IdleTimeout": "9s" } } ] });
    let compiled = compile("web", &known(vec![(EntryKind::Router, "web", routes)]));
    let at = "service-router web: Routes[0].Destination";
    assert_eq!(
        compiled.unsupported,
        [
            format!("{at}.IdleTimeout"),
            format!("{at}.RequestHeaders.Set[connection]"),
            format!("{at}.RetryOn[1]"),
        ]
    );
    let plan = compiled.plan.unwrap();
    assert_eq!(
        get(&plan, "/old/x"),
        "web, 5 tries on [unavailable, \"502\", \"503\"], /old/… becomes /new/…, header lines"
    );
}

#[test]
fn what_is_wrong_is_a_problem_and_what_is_not_here_is_named() {
    let why = |entries| compile("web", &known(entries)).plan.unwrap_err().join("; ");
    let split = |to: &str| json!({ "Splits": [{ "Weight": 100, "Service": to }] });
    let redirect = |to: Value| json!({ "Redirect": to });
    let regex = json!({ "Routes": [{ "Match": { "HTTP": { "PathRegex": "(" } } }] });
    assert!(why(vec![(EntryKind::Router, "web", regex)]).contains("PathRegex"));
    let circle = vec![
        (EntryKind::Splitter, "web", split("b")),
        (EntryKind::Splitter, "b", split("web")),
    ];
    assert!(why(circle).contains("leads back"));
    let circle = vec![
        (
            EntryKind::Resolver,
            "web",
            redirect(json!({ "Service": "b" })),
        ),
        (
            EntryKind::Resolver,
            "b",
            redirect(json!({ "Service": "web" })),
        ),
    ];
    assert!(why(circle).contains("leads back"));
    let missing = resolver(NO_SUBSETS, json!({ "DefaultSubset": "v9" }));
    assert!(why(vec![(EntryKind::Resolver, "web", missing)]).contains("no subset `v9`"));
    let peer = redirect(json!({ "Service": "b", "Peer": "far" }));
    assert!(why(vec![(EntryKind::Resolver, "web", peer)]).contains("peer"));

    let more = resolver(
        NO_SUBSETS,
        json!({ "PrioritizeByLocality": { "Mode": "failover" }, "LoadBalancer": { "Policy": "newest", "HashPolicies": [{ "Field": "header" }] },
            "Failover": { "*": { "Targets": [{ "Peer": "far" }, { "Service": "b" }], "SamenessGroup": "g" } } }),
    );
    let compiled = compile("web", &known(vec![(EntryKind::Resolver, "web", more)]));
    let said = compiled.unsupported.join("; ");
    for word in [
        "PrioritizeByLocality",
        "LoadBalancer.Policy",
        "HashPolicies",
        "Peer",
        "SamenessGroup",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(get(&compiled.plan.unwrap(), "/"), "web, then b");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-5_i64..200).prop_map(Value::from),
        prop::sample::select(vec!["", "web", "a", "v1", "*", "5s", "(", "/x", "random"])
            .prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "Routes",
        "Match",
        "HTTP",
        "PathPrefix",
        "PathRegex",
        "Header",
        "Name",
        "Destination",
        "Service",
        "ServiceSubset",
        "Splits",
        "Weight",
        "Subsets",
        "DefaultSubset",
        "Redirect",
        "Failover",
        "Targets",
        "Datacenters",
        "ConnectTimeout",
        "LoadBalancer",
        "Policy",
        "RetryOn",
        "NumRetries",
        "RequestHeaders",
        "Set",
        "v1",
        "*",
        "Filter",
    ]);
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((keys.clone(), inner), 0..6).prop_map(|pairs| pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_written_there_is_a_plan_that_takes_every_request_or_a_problem(
        entries in prop::collection::vec((0_usize..3, prop::sample::select(vec!["web", "a", "v1"]), any_json()), 0..6),
        path in "(/[a-z]{0,3}){1,3}", point: u32,
    ) {
        let kinds = [EntryKind::Router, EntryKind::Splitter, EntryKind::Resolver];
        let entries = entries.into_iter().map(|(kind, service, value)| (kinds[kind], service, value));
        let compiled = compile("web", &known(entries.collect()));
        match compiled.plan {
            Err(problems) => prop_assert!(!problems.is_empty()),
            Ok(plan) => {
                let head = head("GET", &path, &[]);
                let leaf = Asked::of(&head, |asked| plan.choose(asked, point).cloned());
                prop_assert!(leaf.is_some_and(|leaf| leaf.target < plan.targets.len() && leaf.weight > 0));
                prop_assert!(plan.targets.iter().all(|target| !target.places.is_empty()));
                let labels: BTreeSet<String> = plan.targets.iter().map(Target::label).collect();
                prop_assert_eq!(labels.len(), plan.targets.len(), "parts have names of their own");
            }
        }
    }

    #[test]
    fn a_split_gives_each_its_share(weights in prop::collection::vec(1_u32..100, 1..6)) {
        let splits: Vec<Value> = weights.iter().enumerate()
            .map(|(at, weight)| json!({ "Weight": weight, "Service": format!("s{at}") })).collect();
        let plan = plan(vec![(EntryKind::Splitter, "web", json!({ "Splits": splits }))]);
        let whole: u32 = weights.iter().sum();
        let steps = 20_000_u64;
        let mut counts = vec![0_u32; weights.len()];
        for step in 0..steps {
            let point = u32::try_from((step << 32) / steps).unwrap();
            let to = goes(&plan, "GET", "/", &[], point);
            counts[to[1..].parse::<usize>().unwrap()] += 1;
        }
        for (count, weight) in counts.iter().zip(&weights) {
            let expected = f64::from(*weight) / f64::from(whole);
            prop_assert!((f64::from(*count) / steps as f64 - expected).abs() < 0.002);
        }
    }
}
