//! Two datacenters, really joined: the preferred one takes all, the other one takes over, and a bad one harms nobody.

use std::time::Duration;

use serde_json::json;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Consul, Running};

use super::load::Load;
use super::setup::{Gateway, SERVICE, config, counter, grpc, reads};

async fn registered(consul: &Consul, id: &str) -> Running {
    let one = counter().await;
    consul.register(SERVICE, id, grpc(&one), json!({})).await;
    one
}

/// Waits until one of them answers.
async fn expect_reads(counter: &Running) {
    let before = reads(counter).await;
    eventually("it to be asked", PATIENCE + PATIENCE, async || {
        match reads(counter).await - before {
            0..100 => Err(counter.logs()),
            _ => Ok(()),
        }
    })
    .await;
}

/// None of them answers while another one does.
async fn expect_no_reads(none: &[&Running], load: &Load) {
    let all = async || {
        let mut all = Vec::new();
        for one in none {
            all.push(reads(one).await);
        }
        all
    };
    let before = all().await;
    load.reads(300).await;
    assert_eq!(all().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_datacenter_takes_over_only_when_the_preferred_one_has_nobody() {
    let (here, there) = (
        Consul::datacenter("dc1").await,
        Consul::datacenter("dc2").await,
    );
    here.join_wan(&there).await;
    let near = [
        registered(&here, "near").await,
        registered(&here, "nearer").await,
    ];
    let far = registered(&there, "far").await;
    let gateway = Gateway::start(&config(&here, "", ", datacenters: [dc1, dc2]")).await;
    let all = [grpc(&near[0]), grpc(&near[1]), grpc(&far)];
    gateway.expect_usable(&all).await;
    let load = Load::start(gateway.http());
    for what in ["cluster counter in dc1", "cluster counter in dc2"] {
        let up = gateway
            .metric("highpress_consul_up", &[("what", what)])
            .await;
        assert_eq!(up, Some(1.0), "{what}");
    }

    // As long as one of the preferred datacenter is well, nobody else is asked at all.
    expect_no_reads(&[&far], &load).await;
    here.set_health("near", "critical").await;
    gateway.expect_usable(&all[1..]).await;
    expect_no_reads(&[&near[0], &far], &load).await;
    assert_eq!(reads(&far).await, 0);

    // Then the other datacenter bears it all, and gives it back.
    here.set_health("nearer", "critical").await;
    gateway.expect_usable(&all[2..]).await;
    expect_no_reads(&[&near[0], &near[1]], &load).await;
    assert!(reads(&far).await > 100);
    here.set_health("near", "passing").await;
    gateway.expect_usable(&[all[0], all[2]]).await;
    expect_no_reads(&[&near[1], &far], &load).await;
    here.set_health("nearer", "passing").await;
    gateway.expect_usable(&all).await;

    // The preferred one is gone before its Consul has noticed.
    for one in near {
        one.kill().await;
    }
    expect_reads(&far).await;
    gateway.expect_usable(&all[2..]).await;
    load.stop().await;
    let labels = gateway.clusters().await.to_string();
    assert!(labels.contains("dc1") && labels.contains("dc2"), "{labels}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datacenter_that_is_unknown_or_gone_harms_no_other() {
    let (here, mut there) = (
        Consul::datacenter("dc1").await,
        Consul::datacenter("dc2").await,
    );
    here.join_wan(&there).await;
    let near = registered(&here, "near").await;
    let far = registered(&there, "far").await;
    let gateway = Gateway::start(&config(&here, "", ", datacenters: [dc3, dc1, dc2]")).await;
    gateway.expect_usable(&[grpc(&near), grpc(&far)]).await;
    let load = Load::start(gateway.http());
    assert_eq!(gateway.ready().await.0, 200);
    let up = async |what| {
        gateway
            .metric("highpress_consul_up", &[("what", what)])
            .await
    };
    assert_eq!(up("cluster counter in dc3").await, Some(0.0));
    gateway.program.line_with("dc3").await;

    there.kill().await;
    eventually(
        "dc2 to be seen away",
        Duration::from_secs(60),
        async || match up("cluster counter in dc2").await {
            Some(0.0) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
    assert_eq!(up("cluster counter in dc1").await, Some(1.0));
    // What was known last stays, here and there; and here still changes.
    gateway.expect_usable(&[grpc(&near), grpc(&far)]).await;
    let third = registered(&here, "third").await;
    gateway
        .expect_usable(&[grpc(&near), grpc(&third), grpc(&far)])
        .await;
    load.reads(100).await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_query_is_polled_and_followed() {
    let consul = Consul::server().await;
    let (one, two) = (
        registered(&consul, "one").await,
        registered(&consul, "two").await,
    );
    let definition =
        json!({ "Name": "counters", "Service": { "Service": SERVICE, "OnlyPassing": true } });
    let made = consul.api("POST", "/v1/query", &definition).await;
    let asked = config(&consul, "", "").replace(
        &format!("service: {SERVICE}"),
        "query: counters, interval: 500ms",
    );
    let gateway = Gateway::start(&asked).await;
    gateway.expect_usable(&[grpc(&one), grpc(&two)]).await;
    let load = Load::start(gateway.http());
    consul.set_health("one", "critical").await;
    gateway.expect_usable(&[grpc(&two)]).await;
    consul.set_health("one", "passing").await;
    gateway.expect_usable(&[grpc(&one), grpc(&two)]).await;

    // The definition goes away: what is known stays, and the log says why.
    let path = format!("/v1/query/{}", made["ID"].as_str().unwrap());
    consul.api("DELETE", &path, &json!(null)).await;
    gateway.expect_consul(false).await;
    gateway.program.line_with("prepared query counters").await;
    gateway.expect_usable(&[grpc(&one), grpc(&two)]).await;
    consul.api("POST", "/v1/query", &definition).await;
    gateway.expect_consul(true).await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_consul_says_of_an_instance_are_its_labels() {
    let consul = Consul::dev().await;
    let one = counter().await;
    let more = json!({ "Tags": ["blue"], "Meta": { "zone": "b", "stage": "2" } });
    consul.register(SERVICE, "one", grpc(&one), more).await;
    let gateway = Gateway::start(&config(&consul, "", "")).await;
    gateway.expect_usable(&[grpc(&one)]).await;
    let endpoint = gateway.clusters().await[0]["endpoints"][0].to_string();
    for word in ["\"b\"", "blue", "stage", "dc1"] {
        assert!(endpoint.contains(word), "{word}: {endpoint}");
    }
}
