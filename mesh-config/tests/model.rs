//! What a good file becomes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::model::{
    Action, BalancingPolicy, DescriptorSource, Endpoints, FieldMatch, HostPattern, Int64, Labels,
    Limits, PathMatch, Protocol, ValueMatch,
};
use mesh_config::{Snapshot, Status, load, parse, parse_with};

fn good(text: &str) -> Snapshot {
    parse_with(text, Path::new("."), "mesh.yaml", &|_| None)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_example_loads() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mesh.yaml");
    let snapshot = load(&example).unwrap_or_else(|problems| panic!("{problems}"));

    assert_eq!(snapshot.listeners[0].address.to_string(), "127.0.0.1:8080");
    assert!(snapshot.listeners[0].protocols.http1 && snapshot.listeners[0].protocols.h2c);
    assert_eq!(snapshot.admin.address.to_string(), "127.0.0.1:9901");
    assert_eq!(snapshot.threads, None);
    assert_eq!(snapshot.descriptors, [DescriptorSource::Builtin]);
    assert_eq!(snapshot.version.len(), 12);

    let counter = &snapshot.clusters[0];
    let Endpoints::Static(endpoints) = &counter.endpoints else {
        panic!("they stand in the file")
    };
    assert_eq!(endpoints[0].address.to_string(), "127.0.0.1:50051");
    assert_eq!(
        (counter.protocol, counter.load_balancing.policy),
        (Protocol::Grpc, BalancingPolicy::P2c)
    );

    let route = &snapshot.routes[0];
    assert_eq!(
        route.matches.path,
        PathMatch::Prefix("/api/v1/counter/".to_owned())
    );
    assert_eq!(route.timeout.get(), Duration::from_secs(5));
    let transcode = route.transcode().expect("a transcoded route");
    assert_eq!(
        (transcode.services[0].as_str(), transcode.profile.as_str()),
        ("counter.CounterService", "phase1")
    );

    let beta = &snapshot.routes[2];
    assert_eq!(beta.action, Action::PassThrough);
    assert_eq!(beta.matches.conditions(), 5);
    assert_eq!(
        beta.matches.hosts[1],
        HostPattern::Wildcard("beta.example.com".to_owned())
    );
    assert_eq!(
        beta.matches.headers[0].value,
        ValueMatch::Exact("2".to_owned())
    );
    assert_eq!(beta.matches.headers[2].value, ValueMatch::Absent);
    assert_eq!(snapshot.positions.line("routes[2].match.query.mode"), 126);
}

#[test]
fn json_is_yaml_too() {
    let snapshot = good(
        r#"{"clusters": [{"name": "a", "protocol": "grpc", "endpoints": {"static": ["127.0.0.1:1"]}}],
            "routes": [{"name": "r", "transcode": {"services": ["p.S"], "int64": "number"}, "to": "a"}]}"#,
    );
    assert_eq!(snapshot.listeners[0].address.port(), 8080);
    let transcode = snapshot.routes[0].transcode().expect("a transcoded route");
    assert_eq!(
        (transcode.int64, transcode.profile.as_str()),
        (Some(Int64::Number), "standard")
    );
    assert_eq!(snapshot.routes[0].matches.path, PathMatch::Any);
    assert_eq!(snapshot.routes[0].timeout.get(), Duration::from_secs(15));
}

#[test]
fn the_process_environment_is_used() {
    let text = "
        clusters: [{ name: a, protocol: http1, endpoints: { static: [\"${CARGO_PKG_NAME}:1\"] } }]
        routes: [{ name: r, match: { path: / }, to: a }]";
    let snapshot =
        parse(text, Path::new("."), "mesh.yaml").unwrap_or_else(|problems| panic!("{problems}"));
    let Endpoints::Static(endpoints) = &snapshot.clusters[0].endpoints else {
        panic!("they stand in the file")
    };
    assert_eq!(endpoints[0].address.host(), "mesh-config");
}

#[test]
fn the_smallest_file_of_the_reference_is_enough() {
    let reference = include_str!("../../docs/configuration.md");
    let (_, rest) = reference.split_once("```yaml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let snapshot = Arc::new(good(example));
    assert_eq!(snapshot.clusters[0].limits, Limits::default());

    let status = Status::fixed(&snapshot).load();
    assert_eq!(status.json()["version"], snapshot.version.as_str());
    assert_eq!(status.json()["rejected"], serde_json::Value::Null);
}

/// Each further example is a route, or keys of one.
#[test]
fn every_example_of_the_reference_is_right() {
    let reference = include_str!("../../docs/configuration.md");
    let mut examples = 0;
    for example in reference.split("```yaml\n").skip(2) {
        let (example, _) = example.split_once("```").expect("its end");
        let mut route = example.to_owned();
        if !route.starts_with("- name: ") {
            let keys: String = example.lines().map(|line| format!("  {line}\n")).collect();
            route = format!("- name: example\n{keys}");
        }
        for (missing, key) in [
            (
                ["\n  to:", "\n  weighted:", "\n  redirect:"].as_slice(),
                "  to: monolith\n",
            ),
            (&["\n  match:"], "  match: { path_prefix: / }\n"),
        ] {
            if !missing.iter().any(|missing| route.contains(missing)) {
                route.push_str(key);
            }
        }
        let text = format!(
            "clusters:
- {{ name: counter, protocol: grpc, endpoints: {{ static: [\"a:1\"] }} }}
- {{ name: counter-canary, protocol: grpc, endpoints: {{ static: [\"a:2\"] }} }}
- {{ name: monolith, protocol: http1, endpoints: {{ static: [\"a:3\"] }} }}
routes:\n{route}"
        );
        // Of gRPC clusters only transcoded routes are.
        let text = match text.contains("weighted:") {
            true => format!("{text}  transcode: {{ services: [counter.CounterService] }}\n"),
            false => text,
        };
        let environment = |name: &str| Some(name.to_lowercase());
        if let Err(problems) = parse_with(&text, Path::new("."), "mesh.yaml", &environment) {
            panic!("{problems} in\n{text}");
        }
        examples += 1;
    }
    assert!(examples > 4, "the examples are gone");
}

#[test]
fn conditions_on_values_hold_as_they_read() {
    let snapshot = good(
        r#"
        clusters: [{ name: a, protocol: http1, endpoints: { static: ["a:1"] } }]
        routes:
          - name: r
            to: a
            match:
              hosts: ["::1", "Example.COM."]
              query:
                exact: { exact: abc }
                prefix: { prefix: ab }
                suffix: { suffix: bc }
                contains: { contains: b }
                regex: { regex: "a.c" }
                present: { present: true }
                absent: { present: false }
        "#,
    );
    let matches = &snapshot.routes[0].matches;
    let hosts: Vec<String> = matches.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["[::1]", "example.com"]);
    for (value, holding) in [
        (Some("abc"), "exact prefix suffix contains regex present"),
        (Some("abd"), "prefix contains present"),
        (Some(""), "present"),
        (None, "absent"),
    ] {
        let holds = |field: &&FieldMatch| field.value.matches(value.map(str::as_bytes));
        let names: Vec<&str> = matches
            .query
            .iter()
            .filter(holds)
            .map(|field| field.name.as_str())
            .collect();
        assert_eq!(names.join(" "), holding, "{value:?}");
    }
}

#[test]
fn an_endpoint_has_labels() {
    let snapshot = good(
        r#"
clusters:
  - name: counter
    protocol: grpc
    endpoints:
      static:
        - { address: "127.0.0.1:1", node: n1, zone: a, tags: [blue, new], metadata: { version: v2, stage: s }, priority: 1 }
        - "127.0.0.1:2"
routes:
  - { name: counters, transcode: { services: [counter.CounterService] }, to: counter }
"#,
    );
    let Endpoints::Static(endpoints) = &snapshot.clusters[0].endpoints else {
        panic!("they stand in the file")
    };
    let expected = Labels {
        node: Some("n1".into()),
        zone: Some("a".into()),
        datacenter: None,
        tags: ["blue".into(), "new".into()].into(),
        metadata: [("version", "v2"), ("stage", "s")].into_iter().collect(),
        priority: 1,
    };
    assert_eq!(*endpoints[0].labels, expected);
    assert_eq!(*endpoints[1].labels, Labels::default());
}
