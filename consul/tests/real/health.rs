//! What is registered is seen, at once, and through restarts.

use std::time::{Duration, Instant};

use consul::{Health, ServiceQuery, State, Watch, Weights};
use serde_json::json;
use testkit::Consul;
use testkit::wait::{eventually, within};

use super::setup::*;

#[tokio::test]
async fn health_weights_tags_and_metadata_are_seen_as_they_change() {
    let consul = Consul::dev().await;
    let mut watch = Watch::new(client(&consul), service("s"));
    let none = within("the first answer", PATIENCE, watch.next()).await;
    assert!(none.value.list.is_empty() && !none.meta.filtered);

    let more = json!({ "Tags": ["v2"], "Meta": { "admin_port": "81" }, "Weights": { "Passing": 7, "Warning": 3 } });
    consul
        .register("s", "a", "127.0.0.1:5001".parse().unwrap(), more)
        .await;
    let found = until(&mut watch, "a passing instance", |found| {
        health(found) == [("a", &Health::Passing)]
    })
    .await;
    let one = &found.list[0];
    assert_eq!(
        (one.host.as_str(), one.port, one.tags[0].as_str()),
        ("127.0.0.1", 5001, "v2")
    );
    assert_eq!(
        (one.weights, one.meta["admin_port"].as_str()),
        (
            Weights {
                passing: 7,
                warning: 3
            },
            "81"
        )
    );

    consul.set_health("a", "warning").await;
    until(&mut watch, "a warning", |found| {
        matches!(found.list[0].health, Health::Warning(_))
    })
    .await;
    consul.set_health("a", "critical").await;
    let found = until(&mut watch, "a critical one", |found| {
        matches!(found.list[0].health, Health::Critical(_))
    })
    .await;
    assert!(
        format!("{:?}", found.list[0].health).contains("critical by the test"),
        "{found:?}"
    );
    consul.set_health("a", "passing").await;
    until(&mut watch, "passing again", |found| {
        found.list[0].health == Health::Passing
    })
    .await;
    let path = "/v1/agent/service/maintenance/a?enable=true&reason=upgrade";
    consul.api("PUT", path, &json!(null)).await;
    until(&mut watch, "maintenance", |found| {
        found.list[0].health == Health::Maintenance("upgrade".to_owned())
    })
    .await;
    consul.deregister("a").await;
    until(&mut watch, "nothing", |found| found.list.is_empty()).await;
}

type Narrow = fn(&mut ServiceQuery);

#[tokio::test]
async fn filters_narrow_what_is_seen() {
    let consul = Consul::dev().await;
    for (id, tag, stage) in [("a", "blue", "1"), ("b", "blue", "2"), ("c", "green", "2")] {
        let more = json!({ "Tags": [tag, "all"], "Meta": { "stage": stage } });
        consul
            .register("s", id, "127.0.0.1:5001".parse().unwrap(), more)
            .await;
    }
    let ids = async |query: ServiceQuery| {
        let found = within(
            "an answer",
            PATIENCE,
            Watch::new(client(&consul), query).next(),
        )
        .await;
        let ids: Vec<String> = found.value.list.into_iter().map(|one| one.id).collect();
        ids.join("")
    };
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect();
    let filter = "Service.Meta.stage == \"2\" and blue in Service.Tags".to_owned();
    let narrowed: [(&str, Narrow); 3] = [
        ("abc", |_| ()),
        ("abc", |query| {
            query.max_stale = Some(Duration::from_secs(5));
            query.datacenter = Some("dc1".to_owned());
        }),
        ("", |query| {
            query.node_meta = vec![("rack".to_owned(), "9".to_owned())];
        }),
    ];
    for (expected, narrow) in narrowed {
        let mut query = service("s");
        narrow(&mut query);
        assert_eq!(ids(query).await, expected);
    }
    let mut query = service("s");
    query.tags = tags(&["blue", "all"]);
    assert_eq!(ids(query.clone()).await, "ab");
    query.filter = Some(filter);
    assert_eq!(ids(query).await, "b");
}

#[tokio::test]
async fn a_datacenter_that_nobody_knows_is_said_to_be_unknown() {
    let consul = Consul::dev().await;
    let nowhere = ServiceQuery {
        datacenter: Some("dc9".to_owned()),
        ..service("s")
    };
    let mut watch = Watch::new(client(&consul), nowhere);
    let status = watch.status();
    let failed = tokio::time::timeout(Duration::from_millis(500), watch.next()).await;
    assert!(failed.is_err(), "{failed:?}");
    assert!(
        status
            .get()
            .state
            .to_string()
            .contains("No path to datacenter"),
        "{}",
        status.get().state
    );
}

#[tokio::test]
async fn a_change_is_seen_within_a_tenth_of_a_second() {
    let consul = Consul::dev().await;
    consul
        .register("s", "a", "127.0.0.1:5001".parse().unwrap(), json!({}))
        .await;
    let mut watch = Watch::new(client(&consul), service("s"));
    until(&mut watch, "the instance", |found| found.list.len() == 1).await;
    let mut worst = Duration::ZERO;
    for round in 0..20 {
        let status = if round % 2 == 0 {
            "critical"
        } else {
            "passing"
        };
        let change = async {
            consul.set_health("a", status).await;
            Instant::now()
        };
        let seen = async {
            until(&mut watch, "the change", |found| {
                (found.list[0].health == Health::Passing) == (status == "passing")
            })
            .await;
            Instant::now()
        };
        let (changed, seen) = tokio::join!(change, seen);
        worst = worst.max(seen.saturating_duration_since(changed));
        // Below the pace at which a hot service is followed.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    eprintln!("the slowest of 20 changes was seen after {worst:?}");
    assert!(worst < Duration::from_millis(100), "{worst:?}");
}

#[tokio::test]
async fn a_server_that_dies_and_comes_back_is_a_state_with_a_since() {
    let mut consul = Consul::server().await;
    consul
        .register("s", "a", "127.0.0.1:5001".parse().unwrap(), json!({}))
        .await;
    let mut watch = Watch::new(client(&consul), service("s"));
    until(&mut watch, "the instance", |found| found.list.len() == 1).await;
    let status = watch.status();
    let watching = tokio::spawn(async move {
        let found = until(&mut watch, "what came after", |found| found.list.len() == 2).await;
        found.list.len()
    });
    let killed = std::time::SystemTime::now();
    consul.kill().await;
    eventually("the watch to notice", PATIENCE, async || {
        match status.get().state {
            State::Away(error) => Ok(error),
            other => Err(other.to_string()),
        }
    })
    .await;
    assert!(status.get().since >= killed);
    consul.restart().await;
    eventually(
        "the watch to be current again",
        PATIENCE,
        async || match status.get().state {
            State::Current => Ok(()),
            other => Err(other.to_string()),
        },
    )
    .await;
    consul
        .register("s", "b", "127.0.0.1:5002".parse().unwrap(), json!({}))
        .await;
    assert_eq!(watching.await.unwrap(), 2);
}

#[tokio::test]
async fn a_server_that_has_forgotten_everything_is_followed_from_its_first_word() {
    let mut consul = Consul::dev().await;
    for n in 0..50 {
        consul.put_key("k", &n.to_string()).await;
    }
    let at = "127.0.0.1:5001".parse().unwrap();
    consul.register("s", "a", at, json!({})).await;
    let mut watch = Watch::new(client(&consul), service("s"));
    until(&mut watch, "the instance", |found| found.list.len() == 1).await;
    let before = watch.status().get().index;
    let status = watch.status();
    let watching = tokio::spawn(async move {
        until(&mut watch, "that it is gone", |found| found.list.is_empty()).await;
        until(&mut watch, "that it is back", |found| found.list.len() == 1).await;
        Instant::now()
    });
    consul.kill().await;
    eventually("the watch to notice", PATIENCE, async || {
        match status.get().state {
            State::Away(_) => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    consul.restart().await;
    eventually(
        "the watch to be current again",
        PATIENCE,
        async || match status.get().state {
            State::Current => Ok(()),
            other => Err(other.to_string()),
        },
    )
    .await;
    let registered = Instant::now();
    consul.register("s", "a", at, json!({})).await;
    let seen = watching.await.unwrap();
    assert!(status.get().index < before, "the server has begun anew");
    // A query that was held with the index of before would have waited for 20 s.
    assert!(seen - registered < Duration::from_secs(2));
}
