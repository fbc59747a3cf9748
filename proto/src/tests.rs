//! The descriptor set as tools see it: it decodes, is complete, and annotates exactly the contract's paths.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use prost_reflect::{DescriptorPool, MethodDescriptor, Value};

use crate::{DEDUPE_OPTION, DESCRIPTOR_SET, IDEMPOTENCY_KEY};

fn pool() -> DescriptorPool {
    DescriptorPool::decode(DESCRIPTOR_SET).expect("the descriptor set decodes with its imports")
}

fn methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    pool.services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect()
}

/// `GET /path` of each binding of a method.
fn bindings(pool: &DescriptorPool, method: &MethodDescriptor) -> Vec<String> {
    let http = pool
        .get_extension_by_name("google.api.http")
        .expect("annotations.proto is in the set");
    let options = method.options();
    if !options.has_extension(&http) {
        return Vec::new();
    }
    let Value::Message(rule) = options.get_extension(&http).into_owned() else {
        panic!("google.api.http is a message");
    };
    let mut rules = vec![rule.clone()];
    let more = rule
        .get_field_by_name("additional_bindings")
        .expect("a field of HttpRule")
        .into_owned();
    rules.extend(
        more.as_list()
            .expect("repeated")
            .iter()
            .filter_map(Value::as_message)
            .cloned(),
    );
    rules
        .iter()
        .flat_map(|rule| {
            ["get", "post", "put", "delete", "patch"]
                .into_iter()
                .filter(|verb| rule.has_field_by_name(verb))
                .map(|verb| {
                    let path = rule.get_field_by_name(verb).expect("present");
                    format!(
                        "{} {}",
                        verb.to_uppercase(),
                        path.as_str().expect("a string")
                    )
                })
        })
        .collect()
}

#[test]
fn exactly_the_contracts_paths_are_annotated() {
    let pool = pool();
    let found: Vec<String> = methods(&pool)
        .iter()
        .flat_map(|method| {
            bindings(&pool, method)
                .into_iter()
                .map(|path| format!("{} {path}", method.full_name()))
        })
        .collect();
    assert_eq!(
        found,
        [
            "counter.CounterService.IncrementCounter POST /api/v1/counter/increment",
            "counter.CounterService.GetCounter GET /api/v1/counter/{resource_id}/{counter_type}",
            "counter.CounterService.BatchGetCounters POST /api/v1/counter/batch",
            "analytics.AnalyticsService.GetTopCounters GET /api/v1/counter/hot/{counter_type}",
            "analytics.AnalyticsService.GetTopCounters GET /api/v1/analytics/top/{counter_type}",
            "analytics.AnalyticsService.GetCounterStats GET /api/v1/analytics/stats/{resource_id}/{counter_type}",
            "analytics.AnalyticsService.WatchTopCounters GET /api/v1/analytics/live/{counter_type}",
        ]
    );
}

#[test]
fn only_increments_change_something_and_they_dedupe_by_key() {
    let pool = pool();
    let dedupe = pool
        .get_extension_by_name("highpress.dedupe")
        .expect("options.proto is in the set");
    assert_eq!(dedupe.number(), DEDUPE_OPTION);
    for method in methods(&pool) {
        let options = method.options();
        let level = options
            .get_field_by_name("idempotency_level")
            .expect("a field of MethodOptions");
        if method.name() == "IncrementCounter" {
            assert_eq!(
                level.as_enum_number(),
                Some(0),
                "increments must not be called safe"
            );
            assert_eq!(
                options.get_extension(&dedupe).as_str(),
                Some(IDEMPOTENCY_KEY)
            );
        } else {
            assert_eq!(
                level.as_enum_number(),
                Some(1),
                "{} only reads",
                method.full_name()
            );
            assert!(
                !options.has_extension(&dedupe),
                "{} has nothing to dedupe",
                method.full_name()
            );
        }
    }
}

#[test]
fn fields_and_numbers_are_the_contracts() {
    let pool = pool();
    let fields = |message: &str| -> String {
        let message = pool
            .get_message_by_name(message)
            .expect("a message of the contract");
        let mut fields: Vec<_> = message.fields().collect();
        fields.sort_by_key(prost_reflect::FieldDescriptor::number);
        let text: Vec<_> = fields
            .iter()
            .map(|f| format!("{:?} {} {}", f.kind(), f.name(), f.number()))
            .collect();
        text.join(", ").replace("Kind::", "").to_lowercase()
    };
    assert_eq!(
        fields("counter.IncrementRequest"),
        "string resource_id 1, string counter_type 2, int64 delta 3"
    );
    assert_eq!(
        fields("counter.IncrementResponse"),
        "bool success 1, int64 current_value 2, string message 3, string resource_id 4, string counter_type 5, int64 timestamp 6"
    );
    assert_eq!(
        fields("counter.GetCounterResponse"),
        "string resource_id 1, string counter_type 2, int64 current_value 3, int64 updated_at 4"
    );
    assert_eq!(
        fields("analytics.RankedCounter"),
        "int32 rank 1, string resource_id 2, string counter_type 3, int64 value 4, int64 error_bound 5"
    );
    assert_eq!(fields("analytics.Point"), "int64 start 1, int64 value 2");
}

#[test]
fn comments_are_kept_for_documentation() {
    let pool = pool();
    let file = pool
        .get_file_by_name("highpress/counter.proto")
        .expect("the counter's file");
    let info = file
        .file_descriptor_proto()
        .source_code_info
        .as_ref()
        .expect("source info");
    assert!(
        info.location
            .iter()
            .any(|l| l.leading_comments().contains("Adds `delta` to one counter"))
    );
}
