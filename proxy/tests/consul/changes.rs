//! Instances that come, go and fail while requests flow: no request notices.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::Consul;
use testkit::wait::{PATIENCE, eventually};

use super::load::Load;
use super::setup::{Gateway, SERVICE, config, counter, grpc, refused, registered};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_come_and_go_and_no_read_fails() {
    let consul = Consul::dev().await;
    let (one, two, three) = (
        registered(&consul).await,
        registered(&consul).await,
        counter().await,
    );
    consul
        .register(SERVICE, "three", grpc(&three), json!({}))
        .await;
    let gateway = Gateway::start(&config(&consul, "", "")).await;
    gateway
        .expect_usable(&[grpc(&one), grpc(&two), grpc(&three)])
        .await;
    let load = Load::start(gateway.http());

    // Killed: connections are refused long before its check fails.
    one.kill().await;
    gateway.expect_usable(&[grpc(&two), grpc(&three)]).await;
    // Added.
    let four = registered(&consul).await;
    gateway
        .expect_usable(&[grpc(&two), grpc(&three), grpc(&four)])
        .await;
    // Its check fails, and passes again.
    consul.set_health("three", "critical").await;
    gateway.expect_usable(&[grpc(&two), grpc(&four)]).await;
    let endpoints = gateway.endpoints().await;
    let out = endpoints
        .iter()
        .find(|(address, ..)| *address == grpc(&three).to_string());
    let reasons = &out.expect("it is shown").2;
    assert!(
        reasons.contains("critical in Consul") && reasons.contains("critical by the test"),
        "{reasons}"
    );
    consul.set_health("three", "passing").await;
    gateway
        .expect_usable(&[grpc(&two), grpc(&three), grpc(&four)])
        .await;
    // Deregistered.
    consul.deregister("three").await;
    gateway.expect_usable(&[grpc(&two), grpc(&four)]).await;
    // Drained.
    assert!(two.stop_within(PATIENCE).await.success());
    gateway.expect_usable(&[grpc(&four)]).await;

    let before = load.done();
    eventually("reads of the one that is left", PATIENCE, async || {
        let more = load.done() - before;
        if more > 100 { Ok(()) } else { Err(more) }
    })
    .await;
    load.stop().await;
    let logs = gateway.program.logs();
    for line in [
        "an endpoint takes requests from now on",
        "critical in Consul",
        "not in Consul any more",
    ] {
        assert!(logs.contains(line), "{line} is missing in:\n{logs}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reaches_traffic_within_a_tenth_of_a_second() {
    let consul = Consul::dev().await;
    let (one, two) = (counter().await, counter().await);
    consul.register(SERVICE, "one", grpc(&one), json!({})).await;
    consul.register(SERVICE, "two", grpc(&two), json!({})).await;
    let gateway = Gateway::start(&config(&consul, "", "")).await;
    gateway.expect_usable(&[grpc(&one), grpc(&two)]).await;
    let mut took = Vec::new();
    for round in 0..10 {
        let (status, usable) = [("critical", 1), ("passing", 2)][round % 2];
        consul.set_health("one", status).await;
        let known = Instant::now();
        eventually("the change", PATIENCE, async || {
            let endpoints = gateway.endpoints().await;
            let count = endpoints.iter().filter(|(_, usable, _)| *usable).count();
            if count == usable { Ok(()) } else { Err(count) }
        })
        .await;
        took.push(known.elapsed());
    }
    took.sort();
    eprintln!("changes reached traffic after {took:?}");
    // Of ten, the machine may have had something else to do for some.
    assert!(took[5] < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_and_warnings_are_those_of_the_definition() {
    let consul = Consul::dev().await;
    let one = counter().await;
    let weights = json!({ "Weights": { "Passing": 7, "Warning": 2 } });
    consul.register(SERVICE, "one", grpc(&one), weights).await;
    let strict = Gateway::start(&config(&consul, "", "")).await;
    let lenient = Gateway::start(&config(&consul, "", ", warning: true")).await;
    strict.expect_usable(&[grpc(&one)]).await;
    consul.set_health("one", "warning").await;
    strict.expect_usable(&[]).await;
    assert!(strict.endpoints().await[0].2.contains("warning in Consul"));
    // With nobody better, it serves all the same.
    assert_eq!(strict.read().await, 200);
    lenient.expect_usable(&[grpc(&one)]).await;
    assert_eq!(lenient.read().await, 200);
    consul
        .api(
            "PUT",
            "/v1/agent/service/maintenance/one?enable=true&reason=upgrade",
            &json!(null),
        )
        .await;
    lenient.expect_usable(&[]).await;
    assert!(
        lenient.endpoints().await[0]
            .2
            .contains("in maintenance in Consul: upgrade")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_follows_another_question_and_keeps_what_is_not_changed() {
    let consul = Consul::dev().await;
    let (one, two) = (counter().await, counter().await);
    consul
        .register(SERVICE, "one", grpc(&one), json!({ "Tags": ["blue"] }))
        .await;
    consul
        .register(SERVICE, "two", grpc(&two), json!({ "Tags": ["green"] }))
        .await;
    let gateway = Gateway::start(&config(&consul, "", ", tags: [blue]")).await;
    gateway.expect_usable(&[grpc(&one)]).await;
    let load = Load::start(gateway.http());
    let file = gateway.directory.path().join("mesh.yaml");
    let limits = config(&consul, "", ", tags: [blue]").replace(
        "protocol: grpc",
        "protocol: grpc\n    limits: { pending: 7 }",
    );
    std::fs::write(&file, limits).unwrap();
    gateway.program.line_with("configuration in force").await;
    gateway.expect_usable(&[grpc(&one)]).await;
    std::fs::write(&file, config(&consul, "", ", tags: [green]")).unwrap();
    gateway.expect_usable(&[grpc(&two)]).await;
    let fixed = config(&consul, "", "").replace(
        &format!("consul: {{ service: {SERVICE} }}"),
        &format!("static: [\"{}\"]", grpc(&one)),
    );
    std::fs::write(&file, fixed).unwrap();
    gateway.expect_usable(&[grpc(&one)]).await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_registers_itself_and_leaves() {
    let consul = Consul::dev().await;
    let gateway = Gateway::start(&config(&consul, "", "")).await;
    let expect = async |expected: &[&str]| {
        eventually(&format!("gateways {expected:?}"), PATIENCE, async || {
            let found = consul.instances("high-go-press-gateway").await;
            let found: Vec<&str> = found.iter().map(|(_, status)| status.as_str()).collect();
            if found == expected {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;
    };
    expect(&["passing"]).await;
    let found = consul.get("/v1/health/service/high-go-press-gateway").await;
    let service = &found[0]["Service"];
    assert_eq!(service["Port"], gateway.http().port());
    let admin = gateway.program.address("admin").port().to_string();
    assert_eq!(service["Meta"]["admin_port"], admin);
    // Critical at once when it drains, and then gone.
    let path = "/v1/health/service/high-go-press-gateway";
    let index = consul.index(path).await;
    gateway.program.terminate();
    let (seen, _) = consul.blocking(path, index).await;
    assert!(seen.to_string().contains("critical"), "{seen}");
    assert!(gateway.program.exit_within(PATIENCE).await.success());
    expect(&[]).await;
}

/// What Consul knows of a gateway.
async fn registration(consul: &Consul, gateway: &Gateway) -> Value {
    let port = gateway.http().port();
    let path = "/v1/health/service/high-go-press-gateway";
    eventually("the gateway to be registered", PATIENCE, async || {
        let found = consul.get(path).await;
        let found = found.as_array().into_iter().flatten();
        let mut mine = found.filter(|one| one["Service"]["Port"] == port);
        mine.next()
            .map(|one| one["Service"].clone())
            .ok_or("nobody")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_says_in_consul_what_it_is_told_to_say_of_itself() {
    let consul = Consul::dev().await;
    let said = async |gateway: &Gateway| registration(&consul, gateway).await;
    let plain = config(&consul, "", "");
    let more = |keys: &str| {
        let address = format!("address: \"{}\"", consul.url());
        plain.replacen(&address, &format!("{address}, {keys}"), 1)
    };
    let written = more("tags: [edge, eu], weight: 7, advertise: gateway.internal");
    let gateway = Gateway::start(&written).await;
    let service = said(&gateway).await;
    assert_eq!(service["Address"], "gateway.internal");
    assert_eq!(service["Tags"], json!(["edge", "eu"]));
    assert_eq!(service["Weights"]["Passing"], 7);
    let version = service["Meta"]["version"].as_str().unwrap();
    assert!(version.split('.').count() == 3, "{version}");

    // Tags and weight change at once; where clients reach it stands as it was made, and a change of it says so.
    gateway.reconfigure(&more("tags: [edge], weight: 8, advertise: other.internal"));
    let line = gateway.program.line_with("need a restart").await;
    assert!(line.contains("keys=\"consul.advertise\""), "{line}");
    eventually("the other tags and weight", PATIENCE, async || {
        let service = said(&gateway).await;
        let now = (&service["Tags"], &service["Weights"]["Passing"]);
        if now == (&json!(["edge"]), &json!(8)) && service["Address"] == "gateway.internal" {
            Ok(())
        } else {
            Err(service.to_string())
        }
    })
    .await;
    drop(gateway);

    // Flags go before the configuration.
    let flags = ["--tags", "blue", "--weight", "9"];
    let gateway = Gateway::start_with(&written, &flags).await;
    let service = said(&gateway).await;
    assert_eq!(service["Address"], "gateway.internal");
    assert_eq!(
        (&service["Tags"], &service["Weights"]["Passing"]),
        (&json!(["blue"]), &json!(9))
    );

    for (wrong, why) in [
        (
            "weight: 65536",
            "consul.weight: that is too much for Consul: at most 65535",
        ),
        ("weight: 0", "consul.weight"),
        (
            "advertise: \"0.0.0.0\"",
            "consul.advertise: write HOST or HOST:PORT",
        ),
        ("tagz: [a]", "did you mean `tags`"),
    ] {
        let told = refused(&more(wrong)).await;
        assert!(told.contains(why), "{told}");
    }
}
