//! Profiles in mesh.yaml: what `highpress-proxy profile NAME` prints can stand there, and the documentation's example holds.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;

use transcode::{JsonChoices, Profile, Request, Schema, Transcoder};

const MESH: &str = "
listeners: [{ address: 127.0.0.1:0 }]
descriptors: [builtin]
clusters: [{ name: counter, protocol: grpc, endpoints: { static: [127.0.0.1:50051] } }]
routes: [{ name: counters, transcode: { services: [counter.CounterService] }, to: counter }]
";

/// The only profile of a configuration.
fn profile(yaml: &str) -> Profile {
    let mesh = format!("{MESH}{yaml}");
    let snapshot = mesh_config::parse(&mesh, Path::new("."), "mesh.yaml")
        .unwrap_or_else(|problems| panic!("{problems}\n{mesh}"));
    let (name, source) = snapshot.profiles.iter().next().expect("a profile");
    Profile::parse(name.as_str(), source).unwrap_or_else(|faults| panic!("{faults:?}\n{mesh}"))
}

#[test]
fn a_printed_profile_can_be_pasted_into_mesh_yaml() {
    for name in Profile::builtin_names() {
        let printed = Profile::builtin(name).unwrap().to_yaml();
        let pasted: String = printed
            .lines()
            .map(|line| format!("    {line}\n"))
            .collect();
        let read = profile(&format!("profiles:\n  mine:\n{pasted}"));
        assert_eq!(read.to_yaml(), printed);
    }
}

#[test]
fn the_documented_profile_compiles() {
    let docs = include_str!("../../docs/profiles.md");
    let (_, after) = docs.split_once("```yaml\n").expect("an example");
    let (example, _) = after.split_once("```").expect("its end");
    let profile = profile(example);
    let schema = Schema::from_descriptor_sets([proto::DESCRIPTOR_SET]).unwrap();
    let request = Request {
        services: &["counter.CounterService", "analytics.AnalyticsService"],
        profile: &profile,
        json: JsonChoices::default(),
        unannotated: false,
    };
    let bindings = Transcoder::new(Arc::new(schema)).bindings(&request);
    assert!(bindings.is_ok(), "{bindings:?}");
}
