//! Query strings of clients: what is taken becomes protobuf.

#![no_main]

use std::ops::ControlFlow;
use std::sync::LazyLock;

use fuzz::SCHEMA;
use libfuzzer_sys::fuzz_target;
use transcode::{
    Binding, Captures, Entry, HostPattern, JsonChoices, PathPattern, Profile, Request,
    RouterBuilder, Transcoder,
};

const PATH: &str = "/v1/everything";

static ASKED: LazyLock<(Binding, Captures)> = LazyLock::new(|| {
    let profile = Profile::builtin("standard").expect("it is built in");
    let request = Request {
        services: &["asked.Asked"],
        profile: &profile,
        json: JsonChoices::default(),
        unannotated: false,
    };
    let mut bindings = Transcoder::new(SCHEMA.clone())
        .bindings(&request)
        .expect("it compiles");
    let binding = bindings.pop().expect("it has a method");
    let mut builder = RouterBuilder::new();
    let entry = Entry {
        hosts: vec![HostPattern::Any],
        path: PathPattern::Template(binding.template.clone()),
        conditions: 0,
        empty_segments: false,
        value: (),
    };
    builder.insert(entry).expect("a template");
    let router = builder.build().expect("a router");
    let captures = router.find("host", PATH, |(), found| {
        ControlFlow::Break(found.captures())
    });
    (binding, captures.expect("it is found"))
});

fuzz_target!(|query: &str| {
    let (binding, captures) = &*ASKED;
    let mut wire = Vec::new();
    if binding
        .encode_request(PATH, captures, Some(query), b"", &mut wire)
        .is_ok()
    {
        fuzz::is_protobuf("everything.Everything", &wire);
    }
});
