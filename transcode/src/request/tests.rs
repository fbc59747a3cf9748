#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::ops::ControlFlow;

use proptest::prelude::*;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::{Value, json};

use crate::profile::{JsonChoices, Profile};
use crate::router::{Entry, PathPattern, Router, RouterBuilder};
use crate::schema::Schema;
use crate::{Binding, Request, Transcoder, UnknownFields, fixture};

const LIBRARY: &str = include_str!("library.proto");

/// A gateway without a network: routes, encodes, and shows the message that a backend would get.
struct Gateway {
    router: Router<(String, Binding)>,
    pool: DescriptorPool,
}

impl Gateway {
    fn new(descriptors: &[u8], services: &[&str], profile: &Profile, json: JsonChoices) -> Gateway {
        let schema = Schema::from_descriptor_sets([descriptors]).unwrap().into();
        let request = Request {
            services,
            profile,
            json,
            unannotated: true,
        };
        let bindings = Transcoder::new(schema).bindings(&request).unwrap();
        let mut builder = RouterBuilder::new();
        for binding in bindings {
            builder
                .insert(Entry {
                    hosts: vec![],
                    path: PathPattern::Template(binding.template.clone()),
                    conditions: 0,
                    empty_segments: binding.empty_segments,
                    value: (binding.http_method.clone(), binding),
                })
                .unwrap();
        }
        let pool = DescriptorPool::decode(descriptors).unwrap();
        Gateway {
            router: builder.build().unwrap(),
            pool,
        }
    }

    fn library() -> Gateway {
        Gateway::library_with(JsonChoices::default())
    }

    fn library_with(json: JsonChoices) -> Gateway {
        let standard = Profile::builtin("standard").unwrap();
        Gateway::new(
            &fixture::descriptors(LIBRARY),
            &["test.Library"],
            &standard,
            json,
        )
    }

    fn phase1() -> Gateway {
        let phase1 = Profile::builtin("phase1").unwrap();
        let services = ["counter.CounterService", "analytics.AnalyticsService"];
        Gateway::new(fixture::BUILTIN, &services, &phase1, JsonChoices::default())
    }

    fn method(&self, binding: &Binding) -> MethodDescriptor {
        let service = self.pool.get_service_by_name(&binding.service).unwrap();
        service
            .methods()
            .find(|method| method.name() == binding.method)
            .unwrap()
    }

    fn wire(&self, method: &str, target: &str, body: &str) -> Result<(&Binding, Vec<u8>), String> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let found = self.router.find("", path, |(known, binding), found| {
            if known != method && known != "*" {
                return ControlFlow::Continue(());
            }
            ControlFlow::Break((binding, found.captures()))
        });
        let (binding, captures) = found.ok_or("no route")?;
        let mut wire = b"prefix".to_vec();
        let encoded = binding.encode_request(path, &captures, query, body.as_bytes(), &mut wire);
        encoded.map_err(|error| error.to_string())?;
        Ok((binding, wire.split_off("prefix".len())))
    }

    /// The message as JSON, read by prost-reflect; or the error's text.
    fn send(&self, method: &str, target: &str, body: &str) -> Result<Value, String> {
        let (binding, wire) = self.wire(method, target, body)?;
        let message =
            DynamicMessage::decode(self.method(binding).input(), wire.as_slice()).unwrap();
        Ok(serde_json::to_value(&message).unwrap())
    }
}

/// Each line: a request (method, target, body if there is one), then `=>` and the message that a
/// backend gets as JSON, or `!!` and a part of the error's text.
fn run(gateway: &Gateway, cases: &str) {
    let lines = cases
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let (request, want) = match line.split_once(" => ") {
            Some((request, message)) => (request, Ok(message)),
            None => {
                let (request, why) = line.split_once(" !! ").expect(line);
                (request, Err(why))
            }
        };
        let mut parts = request.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_default();
        let got = gateway.send(part(), part(), part());
        match (want, got) {
            (Ok(want), got) => {
                let want: Value = serde_json::from_str(want).expect(line);
                assert_eq!(got, Ok(want), "{line}");
            }
            (Err(why), Err(error)) => assert!(error.contains(why), "{line}\nsays {error}"),
            (Err(_), Ok(message)) => panic!("{line}\ngives {message}"),
        }
    }
}

#[test]
fn requests_become_messages_as_http_proto_says() {
    run(&Gateway::library(), include_str!("library.cases"));
}

#[test]
fn unknown_parameters_are_ignored_where_the_route_says_so() {
    let unknown_fields = Some(UnknownFields::Ignore);
    let lenient = Gateway::library_with(JsonChoices {
        unknown_fields,
        ..JsonChoices::default()
    });
    run(&lenient, include_str!("lenient.cases"));
}

#[test]
fn phase_1_reads_requests_as_the_monolith_did() {
    run(&Gateway::phase1(), include_str!("phase1.cases"));
}

#[test]
fn a_callers_text_is_not_repeated_at_length() {
    let target = format!("/v1/search?{}=1", "x".repeat(5000));
    let error = Gateway::library().send("GET", &target, "").unwrap_err();
    assert!(error.len() < 300, "{error}");
}

/// Each pair of lines: a request and the reply, and what is enveloped of it.
const ANSWERS: &str = r#"
POST /api/v1/counter/increment {"success":true,"currentValue":"42","message":"ok","resourceId":"a","counterType":"like","timestamp":"17"}
{"resource_id":"a","counter_type":"like","current_value":42,"success":true,"timestamp":17}
GET /api/v1/counter/a/like {"resourceId":"a"}
{"resource_id":"a","counter_type":"","current_value":0,"updated_at":0}
POST /api/v1/counter/batch {"results":[{"resourceId":"a","currentValue":"-1"},{}]}
{"results":[{"resource_id":"a","counter_type":"","current_value":-1,"updated_at":0},{"resource_id":"","counter_type":"","current_value":0,"updated_at":0}],"total":2}
POST /api/v1/counter/batch {}
{"results":[],"total":0}
GET /api/v1/counter/hot/like {"counterType":"like","period":"day","total":1,"exact":true,"counters":[{"rank":1,"resourceId":"a","counterType":"like","value":"9","errorBound":"1"}]}
{"counter_type":"like","period":"day","counters":[{"rank":1,"resource_id":"a","counter_type":"like","value":9}],"total":1}
GET /api/v1/analytics/top/like {"counterType":"like","range":{"start":"1"},"asOf":"5","exact":true}
{"counter_type":"like","period":"","counters":[],"total":0,"range":{"start":1,"end":0},"next_page_token":"","as_of":5,"exact":true,"missing_partitions":[]}
"#;

#[test]
fn phase_1_answers_in_its_envelopes() {
    let gateway = Gateway::phase1();
    let lines: Vec<&str> = ANSWERS.trim().lines().collect();
    for pair in lines.chunks(2) {
        let mut parts = pair[0].splitn(3, ' ');
        let (method, target) = (parts.next().unwrap(), parts.next().unwrap());
        let (binding, _) = gateway
            .wire(method, target, if method == "GET" { "" } else { "{}" })
            .unwrap();
        let reply: Value = serde_json::from_str(parts.next().unwrap()).unwrap();
        let reply = DynamicMessage::deserialize(gateway.method(binding).output(), reply).unwrap();
        let mut json = Vec::new();
        binding
            .decode_response(&prost::Message::encode_to_vec(&reply), &mut json)
            .unwrap();
        let want = format!("{{\"status\":\"success\",\"data\":{}}}", pair[1]);
        assert_eq!(String::from_utf8(json).unwrap(), want, "{}", pair[0]);
    }
}

#[test]
fn response_bodies_are_fields() {
    let gateway = Gateway::library();
    let (binding, wire) = gateway.wire("POST", "/v1/tags", "[\"a\",\"b\"]").unwrap();
    let mut json = b">".to_vec();
    binding.decode_response(&wire, &mut json).unwrap();
    assert_eq!(json, b">[\"a\",\"b\"]");
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(
        method in "GET|PUT|POST|PATCH",
        path in "/v1/(shelves|books|search|files|numbers|deep|formats|tags)(/[a-z%:0-9*.]{0,9}){0,5}",
        query in "((shelf|limit|book|book\\.tags|book\\.author\\.name|book\\.published|book\\.ebook|\\PC{0,5})(=[a-z0-9%+.-]{0,8})?&?){0,6}",
        body in "|\\{\\}|\\PC{0,20}",
    ) {
        let gateway = GATEWAYS.with(std::rc::Rc::clone);
        for gateway in gateway.iter() {
            let target = format!("{path}?{query}");
            if let Err(error) = gateway.send(&method, &target, &body) {
                prop_assert!(!error.is_empty());
            }
        }
    }

    #[test]
    fn any_text_survives_path_and_query(text in "\\PC{1,40}") {
        let encode = |text: &str| -> String { text.bytes().map(|b| format!("%{b:02X}")).collect() };
        let gateway = GATEWAYS.with(std::rc::Rc::clone);
        let want = Ok(json!({ "shelf": text }));
        prop_assert_eq!(gateway[0].send("GET", &format!("/v1/shelves/{}", encode(&text)), ""), want.clone());
        prop_assert_eq!(gateway[0].send("GET", &format!("/v1/search?shelf={}", encode(&text)), ""), want);
    }
}

thread_local! {
    static GATEWAYS: std::rc::Rc<[Gateway]> = std::rc::Rc::from([Gateway::library(), Gateway::phase1()]);
}
