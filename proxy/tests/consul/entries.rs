//! Consul's own config entries, written, changed, spoilt and removed while requests flow.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::wait::{PATIENCE, eventually};
use testkit::{Consul, Http1, HttpBackend, Running};

use super::load::Load;
use super::setup::{Gateway, SERVICE, config, counter, grpc};

/// A gateway that passes HTTP through to `web`, with its config entries.
pub(super) fn web(consul: &Consul) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\nthreads: 1\n\
         consul: {{ address: \"{}\" }}\n\
         clusters:\n  - name: web\n    protocol: http1\n    endpoints: {{ consul: {{ service: web, config_entries: true }} }}\n\
         routes:\n  - name: all\n    match: {{ path_prefix: / }}\n    to: web\n",
        consul.url()
    )
}

pub(super) async fn write(consul: &Consul, entry: Value) {
    consul.api("PUT", "/v1/config", &entry).await;
}

pub(super) async fn speaks_http(consul: &Consul, service: &str) {
    write(
        consul,
        json!({ "Kind": "service-defaults", "Name": service, "Protocol": "http" }),
    )
    .await;
}

/// A backend that says who it is, registered with a version.
pub(super) async fn version(
    consul: &Consul,
    service: &str,
    id: &str,
    version: &str,
) -> HttpBackend {
    let name = format!("{service} {version}");
    let backend = HttpBackend::start(move |_| testkit::http_backend::ok(&name)).await;
    let more = json!({ "Meta": { "version": version } });
    consul.register(service, id, backend.address(), more).await;
    backend
}

async fn get(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut connection = Http1::connect(gateway.http()).await;
    let answer = connection.request("GET", path, headers, None).await;
    (answer.status, answer.text())
}

/// Waits until requests for a path are answered so.
async fn expect(gateway: &Gateway, path: &str, headers: &[(&str, &str)], expected: &str) {
    eventually(
        &format!("{path} to be answered by {expected}"),
        PATIENCE,
        async || match get(gateway, path, headers).await {
            (200, text) if text == expected => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
}

async fn entries(gateway: &Gateway) -> Value {
    gateway.clusters().await[0]["config_entries"].clone()
}

fn subsets(more: Value) -> Value {
    let mut entry = json!({ "Kind": "service-resolver", "Name": "web", "Subsets": {
        "v1": { "Filter": "Service.Meta.version == v1" }, "v2": { "Filter": "Service.Meta.version == v2", "OnlyPassing": true } } });
    entry
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    entry
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_and_subsets_act_within_the_cluster_and_go_again() {
    let consul = Consul::server().await;
    let _one = version(&consul, "web", "one", "v1").await;
    let _two = version(&consul, "web", "two", "v2").await;
    let _other = version(&consul, "other", "o", "v9").await;
    for service in ["web", "other"] {
        speaks_http(&consul, service).await;
    }
    write(&consul, subsets(json!({ "DefaultSubset": "v1" }))).await;
    let gateway = Gateway::start(&web(&consul)).await;
    for _ in 0..20 {
        assert_eq!(get(&gateway, "/", &[]).await, (200, "web v1".to_owned()));
    }
    write(&consul, json!({ "Kind": "service-router", "Name": "web", "Routes": [
        { "Match": { "HTTP": { "PathPrefix": "/other" } }, "Destination": { "Service": "other", "PrefixRewrite": "/inner" } },
        { "Match": { "HTTP": { "Header": [{ "Name": "x-debug", "Exact": "1" }] } }, "Destination": { "ServiceSubset": "v2",
            "RequestHeaders": { "Set": { "x-told": "yes" } }, "ResponseHeaders": { "Add": { "x-part": "v2" } } } },
        { "Match": { "HTTP": { "QueryParam": [{ "Name": "v", "Exact": "2" }], "Methods": ["GET"] } }, "Destination": { "ServiceSubset": "v2" } },
    ] })).await;
    expect(&gateway, "/other/x", &[], "other v9").await;
    expect(&gateway, "/", &[("x-debug", "1")], "web v2").await;
    expect(&gateway, "/?v=2", &[], "web v2").await;
    expect(&gateway, "/?v=1", &[], "web v1").await;
    assert_eq!(_other.received().last().unwrap().target, "/inner/x");
    let told = _two
        .received()
        .iter()
        .any(|one| one.header("x-told") == Some("yes"));
    assert!(told, "the header line of the entry is there");
    let shown = entries(&gateway).await.to_string();
    assert!(
        shown.contains("/other") && shown.contains("web.v2"),
        "{shown}"
    );
    // Parts are clusters of their own.
    let clusters = gateway.clusters().await.to_string();
    assert!(clusters.contains("\"web/web.v2\""), "{clusters}");

    for kind in ["service-router", "service-resolver"] {
        consul
            .api("DELETE", &format!("/v1/config/{kind}/web"), &Value::Null)
            .await;
    }
    gateway
        .program
        .line_with("no config entries are in force any more")
        .await;
    let clusters = gateway.clusters().await;
    assert_eq!(clusters.as_array().unwrap().len(), 1, "{clusters}");
    assert_eq!(get(&gateway, "/", &[("x-debug", "1")]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_gives_each_its_share() {
    let consul = Consul::server().await;
    let _one = version(&consul, "web", "one", "v1").await;
    let _two = version(&consul, "web", "two", "v2").await;
    speaks_http(&consul, "web").await;
    write(&consul, subsets(json!({ "DefaultSubset": "v1" }))).await;
    let gateway = Gateway::start(&web(&consul)).await;
    expect(&gateway, "/", &[], "web v1").await;
    // A split of three to one, within a tenth.
    write(
        &consul,
        json!({ "Kind": "service-splitter", "Name": "web", "Splits": [
        { "Weight": 75, "ServiceSubset": "v1" }, { "Weight": 25, "ServiceSubset": "v2" } ] }),
    )
    .await;
    expect(&gateway, "/", &[], "web v2").await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut connection = Http1::connect(gateway.http()).await;
    for _ in 0..1000 {
        let text = connection.get("/").await.text();
        *counts.entry(text).or_default() += 1;
    }
    let second = counts["web v2"];
    assert!((180..320).contains(&second), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fails_over_where_and_how_soon_a_change_is_there() {
    let consul = Consul::server().await;
    let _one = version(&consul, "web", "one", "v1").await;
    let _two = version(&consul, "web", "two", "v2").await;
    speaks_http(&consul, "web").await;
    write(&consul, subsets(json!({ "DefaultSubset": "v1" }))).await;
    let gateway = Gateway::start(&web(&consul)).await;
    expect(&gateway, "/", &[], "web v1").await;
    let mut took = Vec::new();
    for round in 0..10 {
        let subset = ["v2", "v1"][round % 2];
        write(&consul, subsets(json!({ "DefaultSubset": subset }))).await;
        let written = Instant::now();
        expect(&gateway, "/", &[], &format!("web {subset}")).await;
        took.push(written.elapsed());
    }
    took.sort();
    eprintln!("changes of a config entry reached traffic after {took:?}");
    assert!(took[5] < Duration::from_millis(200), "{took:?}");

    write(
        &consul,
        subsets(json!({ "DefaultSubset": "v1", "Failover": { "v1": { "ServiceSubset": "v2" } } })),
    )
    .await;
    gateway.program.line_with("then web.v2").await;
    consul.set_health("one", "critical").await;
    expect(&gateway, "/", &[], "web v2").await;
    consul.set_health("one", "passing").await;
    expect(&gateway, "/", &[], "web v1").await;
    // Elsewhere altogether.
    let _three = version(&consul, "third", "three", "v3").await;
    speaks_http(&consul, "third").await;
    write(
        &consul,
        json!({ "Kind": "service-resolver", "Name": "web", "Redirect": { "Service": "third" } }),
    )
    .await;
    expect(&gateway, "/", &[], "third v3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_followed_is_said_and_harms_nobody() {
    let consul = Consul::server().await;
    let _one = version(&consul, "web", "one", "v1").await;
    let _two = version(&consul, "web", "two", "v2").await;
    speaks_http(&consul, "web").await;
    write(&consul, subsets(json!({ "DefaultSubset": "v2" }))).await;
    let gateway = Gateway::start(&web(&consul)).await;
    expect(&gateway, "/", &[], "web v2").await;
    // Consul takes a look-behind, no regular expression of this gateway does.
    write(&consul, json!({ "Kind": "service-router", "Name": "web", "Routes": [
        { "Match": { "HTTP": { "PathRegex": "/a(" } }, "Destination": { "ServiceSubset": "v1" } } ] })).await;
    let line = gateway
        .program
        .line_with("the config entries cannot be followed")
        .await;
    assert!(line.contains("those before stay in force"), "{line}");
    let metric = async |what: &str| {
        let name = format!("highpress_config_entries_{what}");
        gateway.metric(&name, &[("cluster", "web")]).await
    };
    assert_eq!(metric("rejected").await, Some(1.0));
    assert_eq!(metric("unsupported").await, Some(0.0));
    let shown = entries(&gateway).await;
    assert!(
        shown["problems"].to_string().contains("PathRegex"),
        "{shown}"
    );
    assert!(shown["in_force"].to_string().contains("web.v2"), "{shown}");
    assert_eq!(get(&gateway, "/ab", &[]).await, (200, "web v2".to_owned()));
    write(&consul, json!({ "Kind": "service-router", "Name": "web", "Routes": [
        { "Match": { "HTTP": { "PathPrefix": "/a" } }, "Destination": { "ServiceSubset": "v1", "IdleTimeout": "7s" } } ] })).await;
    expect(&gateway, "/ab", &[], "web v1").await;
    let shown = entries(&gateway).await;
    assert_eq!(shown["problems"], json!([]));
    assert!(
        shown["not_supported"].to_string().contains("IdleTimeout"),
        "{shown}"
    );
    gateway.program.line_with("not supported").await;
    assert_eq!(metric("rejected").await, Some(0.0));
    assert_eq!(metric("unsupported").await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_transcoded_heed_them_too_and_no_read_fails_meanwhile() {
    let consul = Consul::server().await;
    let (one, two) = (
        of_stage(&consul, "one", "1").await,
        of_stage(&consul, "two", "2").await,
    );
    write(
        &consul,
        json!({ "Kind": "service-defaults", "Name": SERVICE, "Protocol": "grpc" }),
    )
    .await;
    let gateway = Gateway::start(&config(&consul, "", ", config_entries: true")).await;
    gateway.expect_usable(&[grpc(&one), grpc(&two)]).await;
    let load = Load::start(gateway.http());
    for stage in ["1", "2"] {
        write(
            &consul,
            json!({ "Kind": "service-resolver", "Name": SERVICE, "DefaultSubset": "only",
            "Subsets": { "only": { "Filter": format!("Service.Meta.stage == \"{stage}\"") } } }),
        )
        .await;
        let expected = [grpc(&one), grpc(&two)][usize::from(stage == "2")];
        eventually(
            "the part of the cluster to be that stage",
            PATIENCE,
            async || {
                let part = part(&gateway).await;
                if part == [expected.to_string()] {
                    Ok(())
                } else {
                    Err(format!("{part:?}"))
                }
            },
        )
        .await;
        load.reads(50).await;
    }
    write(
        &consul,
        json!({ "Kind": "service-splitter", "Name": SERVICE, "Splits": [
        { "Weight": 50, "ServiceSubset": "only" }, { "Weight": 50 } ] }),
    )
    .await;
    load.reads(100).await;
    for kind in ["service-splitter", "service-resolver"] {
        consul
            .api(
                "DELETE",
                &format!("/v1/config/{kind}/{SERVICE}"),
                &Value::Null,
            )
            .await;
        load.reads(50).await;
    }
    load.stop().await;
}

async fn of_stage(consul: &Consul, id: &str, stage: &str) -> Running {
    let one = counter().await;
    let more = json!({ "Meta": { "stage": stage } });
    consul.register(SERVICE, id, grpc(&one), more).await;
    one
}

/// The usable endpoints of the first part of the cluster.
async fn part(gateway: &Gateway) -> Vec<String> {
    let clusters = gateway.clusters().await;
    let endpoints = clusters[1]["endpoints"].as_array().cloned();
    let endpoints = endpoints.unwrap_or_default().into_iter();
    let usable = endpoints.filter(|one| one["usable"] == true);
    usable
        .map(|one| one["address"].as_str().unwrap_or_default().to_owned())
        .collect()
}
