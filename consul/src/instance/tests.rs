//! The parser against what Consul sends, and against what it should never send.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn entry(id: &str, port: u64, checks: &Value) -> Value {
    json!({
        "Node": { "ID": "x", "Node": "node-1", "Address": "10.0.0.9", "Datacenter": "dc1", "Meta": { "rack": "7" } },
        "Service": {
            "ID": id, "Service": "counter", "Tags": ["v1", "eu"], "Address": "", "Port": port,
            "Meta": { "admin_port": "8081" }, "Weights": { "Passing": 5, "Warning": 2 }
        },
        "Checks": checks,
    })
}

fn parsed(value: &Value) -> Instances {
    parse(value.to_string().as_bytes()).expect("a list of instances")
}

#[test]
fn an_instance_is_what_consul_says_of_it() {
    let found = parsed(&json!([
        entry("b", 50051, &json!([])),
        entry("a", 1, &json!([]))
    ]));
    assert_eq!(found.list.len(), 2);
    assert_eq!(found.list[0].id, "a", "the order is that of the ids");
    let instance = &found.list[1];
    assert_eq!(
        (instance.host.as_str(), instance.port),
        ("10.0.0.9", 50051),
        "the node's address"
    );
    assert_eq!(instance.tags, ["v1", "eu"]);
    assert_eq!(instance.meta["admin_port"], "8081");
    assert_eq!((instance.weights.passing, instance.weights.warning), (5, 2));
    assert_eq!(instance.health, Health::Passing);
}

#[test]
fn health_is_that_of_the_worst_check() {
    let check = |id: &str, status: &str, output: &str| json!({ "CheckID": id, "Name": format!("check {id}"), "Status": status, "Output": output, "Notes": "upgrade" });
    let of = |checks: Value| {
        parsed(&json!([entry("a", 1, &checks)])).list[0]
            .health
            .clone()
    };
    let node = check("serfHealth", "passing", "Agent alive and reachable");
    assert_eq!(of(json!([node])), Health::Passing);
    assert_eq!(
        of(json!([node, check("1", "warning", " slow\n disk")])),
        Health::Warning("check 1: slow disk".to_owned())
    );
    assert_eq!(
        of(json!([
            check("2", "critical", ""),
            check("1", "warning", "slow")
        ])),
        Health::Critical("check 2".to_owned())
    );
    assert_eq!(
        of(json!([check("serfHealth", "sideways", "?")])),
        Health::Critical("check serfHealth: ?".to_owned()),
        "an unknown status is no good one"
    );
    for id in ["_service_maintenance:a", "_node_maintenance"] {
        assert_eq!(
            of(json!([
                check(id, "critical", ""),
                check("2", "critical", "x")
            ])),
            Health::Maintenance("upgrade".to_owned())
        );
    }
}

#[test]
fn entries_that_take_no_traffic_are_counted_and_nonsense_is_refused() {
    let found = parsed(&json!([
        entry("a", 0, &json!([])),
        entry("b", 70_000, &json!([])),
        entry("c", 1, &json!([]))
    ]));
    assert_eq!((found.list.len(), found.unreachable), (1, 2));
    for nonsense in [
        "",
        "null",
        "{}",
        "<html>",
        "[1]",
        "[{}]",
        "[[]]",
        "[{\"Node\":{},\"Service\":{\"Port\":1}}]",
    ] {
        assert!(parse(nonsense.as_bytes()).is_err(), "{nonsense}");
    }
    let whole = json!([entry("a", 1, &json!([]))]).to_string();
    for end in 0..whole.len() {
        assert!(parse(&whole.as_bytes()[..end]).is_err(), "cut at {end}");
    }
}

/// Any JSON, with the keys that matter more often than chance would have it.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        proptest::sample::select(vec![
            "Node", "Service", "Checks", "ID", "Address", "Port", "Tags", "Meta", "Weights",
            "Passing", "Warning", "Status", "CheckID", "Name", "Output", "Notes",
        ])
        .prop_map(str::to_owned),
        ".{0,4}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_u64..70_000).prop_map(Value::from),
        proptest::sample::select(vec![
            "passing",
            "warning",
            "critical",
            "_node_maintenance",
            ""
        ])
        .prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..8)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn assert_sound(found: &Instances) {
    for instance in &found.list {
        assert!(instance.port > 0 && !instance.host.is_empty() && !instance.id.is_empty());
        assert!(u64::from(instance.weights.passing.max(instance.weights.warning)) <= MAX_WEIGHT);
    }
}

proptest! {
    #[test]
    fn bytes_of_any_kind_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(found) = parse(&bytes) {
            assert_sound(&found);
        }
    }

    #[test]
    fn json_of_any_shape_does_no_harm(list in prop::collection::vec(any_json(), 0..4), whole: bool) {
        let text = if whole { Value::from(list).to_string() } else { list.first().cloned().unwrap_or_default().to_string() };
        if let Ok(found) = parse(text.as_bytes()) {
            assert_sound(&found);
        }
    }

    #[test]
    fn one_wrong_byte_does_no_harm(at: prop::sample::Index, byte: u8) {
        let checks = json!([{ "CheckID": "1", "Status": "passing", "Output": "fine" }]);
        let mut text = json!([entry("a", 50051, &checks), entry("b", 2, &checks)]).to_string().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(found) = parse(&text) {
            assert_sound(&found);
        }
    }

    #[test]
    fn what_is_registered_comes_back(
        ids in prop::collection::btree_set("[a-z0-9-]{1,12}", 0..6), port in 1_u16.., passing in 1_u32..1000
    ) {
        let list: Vec<Value> = ids.iter().rev().map(|id| {
            let mut entry = entry(id, u64::from(port), &json!([]));
            entry["Service"]["Weights"]["Passing"] = passing.into();
            entry
        }).collect();
        let found = parsed(&Value::from(list));
        let read: Vec<&String> = found.list.iter().map(|instance| &instance.id).collect();
        prop_assert_eq!(read, ids.iter().collect::<Vec<_>>());
        prop_assert!(found.list.iter().all(|one| one.port == port && one.weights.passing == passing));
    }
}
