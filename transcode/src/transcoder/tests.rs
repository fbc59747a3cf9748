#![allow(clippy::unwrap_used, clippy::expect_used)]
use serde_json::json;

use super::*;
use crate::fixture;

fn compiled(
    source: &str,
    profile: &Profile,
    unannotated: bool,
) -> Result<Vec<Binding>, Vec<String>> {
    let request = Request {
        services: &["test.S"],
        profile,
        json: JsonChoices::default(),
        unannotated,
    };
    let bindings = Transcoder::new(fixture::schema(source)).bindings(&request);
    bindings.map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn standard() -> Profile {
    Profile::builtin("standard").unwrap()
}

const MESSAGES: &str = "
    message Inner { string name = 1; Inner inner = 2; }
    message M { string id = 1; repeated string tags = 2; Inner inner = 3; map<string, string> map = 4; int32 n = 5; uint64 big = 6; }
";

#[test]
fn the_built_in_services_have_the_paths_of_the_contract() {
    let profile = Profile::builtin("phase1").unwrap();
    let request = Request {
        services: &["counter.CounterService", "analytics.AnalyticsService"],
        profile: &profile,
        json: JsonChoices::default(),
        unannotated: true,
    };
    let bindings = Transcoder::new(fixture::builtin())
        .bindings(&request)
        .unwrap();
    let lines: Vec<String> = bindings
        .iter()
        .map(|b| format!("{b} {}", b.grpc_path))
        .collect();
    let want = [
        "POST /api/v1/counter/increment /counter.CounterService/IncrementCounter",
        "POST /counter.CounterService/IncrementCounter /counter.CounterService/IncrementCounter",
        "GET /api/v1/counter/{resource_id}/{counter_type} /counter.CounterService/GetCounter",
        "POST /api/v1/counter/batch /counter.CounterService/BatchGetCounters",
        "POST /counter.CounterService/GetStatus /counter.CounterService/GetStatus",
        "GET /api/v1/counter/hot/{counter_type} /analytics.AnalyticsService/GetTopCounters",
        "GET /api/v1/analytics/top/{counter_type} /analytics.AnalyticsService/GetTopCounters",
        "GET /api/v1/analytics/stats/{resource_id}/{counter_type} /analytics.AnalyticsService/GetCounterStats",
        "GET /api/v1/analytics/live/{counter_type} /analytics.AnalyticsService/WatchTopCounters",
    ];
    for want in want {
        assert!(
            lines.iter().any(|line| line == want),
            "{want} is not among {lines:#?}"
        );
    }
    let top = bindings
        .iter()
        .find(|b| b.template.text().contains("hot"))
        .unwrap();
    assert_eq!(top.full_name(), "analytics.AnalyticsService/GetTopCounters");
    assert_eq!(top.content_type(), "application/json; charset=utf-8");
    assert!(!top.takes_body() && top.empty_segments);
    assert_eq!(top.idempotency, crate::schema::Idempotency::NoSideEffects);
    assert_eq!(top.dedupe, None);
    let fields: Vec<&str> = top
        .query_fields()
        .map(|path| path.field(fixture::builtin().as_ref()).name.clone().leak() as &str)
        .collect();
    assert_eq!(fields, ["limit", "period", "page_token"]);
    assert!(
        bindings
            .iter()
            .any(|b| b.server_streaming && b.method == "WatchTopCounters")
    );
}

#[test]
fn every_kind_of_rule_becomes_a_binding() {
    let source = format!(
        "{MESSAGES} service S {{
            rpc A(M) returns (M) {{ option (google.api.http) = {{
                put: \"/a/{{id}}\" body: \"inner\" response_body: \"tags\"
                additional_bindings {{ patch: \"/a/{{inner.name}}\" body: \"*\" }}
                additional_bindings {{ delete: \"/a/{{id=x/*}}:undo\" }}
                additional_bindings {{ custom {{ kind: \"PROPFIND\" path: \"/a/**\" }} }}
                additional_bindings {{ custom {{ kind: \"*\" path: \"/any\" }} }}
            }}; }}
        }}"
    );
    let bindings = compiled(&source, &standard(), false).unwrap();
    let lines: Vec<String> = bindings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "PUT /a/{id}",
            "PATCH /a/{inner.name}",
            "DELETE /a/{id=x/*}:undo",
            "PROPFIND /a/**",
            "* /any"
        ]
    );
}

#[test]
fn every_mistake_in_annotations_is_told_at_once() {
    let source = format!(
        "{MESSAGES} service S {{
            rpc A(M) returns (M) {{ option (google.api.http) = {{ get: \"/a/{{nope}}/{{tags}}/{{inner}}/{{map}}\" }}; }}
            rpc B(M) returns (M) {{ option (google.api.http) = {{ get: \"/b/{{id\" }}; }}
            rpc C(M) returns (M) {{ option (google.api.http) = {{ post: \"/c\" body: \"nope\" response_body: \"inner.name\" }}; }}
            rpc D(M) returns (M) {{ option (google.api.http) = {{ body: \"*\" }}; }}
            rpc E(M) returns (M) {{ option (google.api.http) = {{
                custom {{ kind: \"A B\" path: \"/e\" }}
                additional_bindings {{ get: \"/e2\" additional_bindings {{ get: \"/e3\" }} }}
            }}; }}
            rpc F(M) returns (M) {{ option (google.api.http) = {{ get: \"/f/{{id.x}}\" }}; }}
        }}"
    );
    let faults = compiled(&source, &standard(), false).unwrap_err();
    let want = [
        "services[0]: test.S.A: `/a/{nope}/{tags}/{inner}/{map}`: variable `nope`: test.M has no field nope; it has id, tags, inner, map, n, big",
        "services[0]: test.S.A: `/a/{nope}/{tags}/{inner}/{map}`: variable `tags`: tags is repeated, and a path holds one value",
        "services[0]: test.S.A: `/a/{nope}/{tags}/{inner}/{map}`: variable `inner`: inner is a message, and a path holds plain values; name a field inside it",
        "services[0]: test.S.A: `/a/{nope}/{tags}/{inner}/{map}`: variable `map`: map is repeated, and a path holds one value",
        "services[0]: test.S.B: `/b/{id` at character 4: this `{` is never closed",
        "services[0]: test.S.C: `/c`: body: test.M has no field nope; it has id, tags, inner, map, n, big",
        "services[0]: test.S.C: `/c`: response_body: `inner.name` is inside another field; only a field of the message itself can be it",
        "services[0]: test.S.D: its google.api.http has neither a method nor a path",
        "services[0]: test.S.E: `/e`: `A B` is not an HTTP method",
        "services[0]: test.S.E: additional_bindings cannot have additional_bindings",
        "services[0]: test.S.F: `/f/{id.x}`: variable `id.x`: id in test.M is not a single message, so the path cannot go through it",
    ];
    assert_eq!(faults, want);
}

#[test]
fn services_must_be_there_and_reachable() {
    let source = format!("{MESSAGES} service S {{ rpc A(M) returns (M); }}");
    let faults = compiled(&source, &standard(), false).unwrap_err();
    assert_eq!(
        faults,
        [
            "services[0]: no method of test.S has a google.api.http annotation; set `unannotated: true` to reach them at POST /test.S/METHOD"
        ]
    );
    let bindings = compiled(&source, &standard(), true).unwrap();
    assert_eq!(bindings[0].to_string(), "POST /test.S/A");

    let profile = standard();
    let request = Request {
        services: &["x.Y"],
        profile: &profile,
        json: JsonChoices::default(),
        unannotated: false,
    };
    let faults = Transcoder::new(fixture::schema(&source))
        .bindings(&request)
        .unwrap_err();
    assert_eq!(
        faults[0].to_string(),
        "services[0]: no descriptor has a service x.Y; they have test.S"
    );
}

#[test]
fn profiles_are_checked_against_the_messages() {
    let source = format!(
        "{MESSAGES} service S {{
            rpc A(M) returns (M) {{ option (google.api.http) = {{ get: \"/a/{{id}}\" }}; }}
        }}"
    );
    let profile = json!({
        "request": { "checks": [
            { "fields": { "nope": "1..2", "tags": ["x"], "id": "1..2", "n": ["x"], "inner.name": ["x"] } },
        ] },
        "success": [
            { "when": { "method": ["test.S/A", "test.S/B", "other.T/*"] }, "body": {
                "data": { "x": "$x", "count": { "$count": "id" }, "ok": "$inner.name",
                          "each": { "$each": "inner", "$as": { "deep": "$nope" } }, "tags": { "$each": "tags" } },
            } },
        ],
    });
    let profile = Profile::parse("mine", &profile).unwrap();
    let faults = compiled(&source, &profile, false).unwrap_err();
    let has = "it has id, tags, inner, map, n, big";
    let want = [
        format!("profiles.mine.success[0].body.data.x: test.M has no field x; {has}"),
        "profiles.mine.success[0].body.data.count: id is one value, so it cannot be counted".to_owned(),
        "profiles.mine.success[0].body.data.each.$as.deep: test.Inner has no field nope; it has name, inner".to_owned(),
        "profiles.mine.success[0].body.data.tags: tags holds no messages, so its elements have no fields".to_owned(),
        format!("profiles.mine.request.checks[0].fields.nope: test.M has no field nope; {has}"),
        "profiles.mine.request.checks[0].fields.tags: tags is repeated, and only single fields can be checked".to_owned(),
        "profiles.mine.request.checks[0].fields.id: id is not a varint integer, so it cannot have a range".to_owned(),
        "profiles.mine.request.checks[0].fields.n: n is not a string, so it cannot be one of some words".to_owned(),
        "profiles.mine.request.checks[0].fields.inner.name: inner.name is inside another field; only fields of the request itself can be checked".to_owned(),
        "profiles.mine.success[0].when.method: test.S has no method B; it has A".to_owned(),
        "profiles.mine.success[0].when.method: no descriptor has a service other.T; they have test.S".to_owned(),
    ];
    for want in &want {
        assert!(faults.contains(want), "{want}\nis not among\n{faults:#?}");
    }
    assert_eq!(faults.len(), want.len(), "{faults:#?}");
}

#[test]
fn a_built_in_profile_may_speak_of_services_that_are_not_there() {
    let source = format!("{MESSAGES} service S {{ rpc A(M) returns (M); }}");
    assert!(compiled(&source, &Profile::builtin("phase1").unwrap(), true).is_ok());
}

#[test]
fn two_methods_cannot_take_the_same_requests() {
    let source = format!(
        "{MESSAGES} service S {{
            rpc A(M) returns (M) {{ option (google.api.http) = {{ get: \"/a/{{id}}:go\" }}; }}
            rpc B(M) returns (M) {{ option (google.api.http) = {{
                get: \"/a/{{id}}:go\" additional_bindings {{ put: \"/a/{{id}}:go\" }} additional_bindings {{ get: \"/a/{{id}}\" }}
            }}; }}
        }}"
    );
    assert_eq!(
        compiled(&source, &standard(), false).unwrap_err(),
        [
            "services[0]: test.S.B: `/a/{id}:go`: GET requests for such paths are taken by test.S.A already"
        ]
    );
}
