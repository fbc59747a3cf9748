//! A real Consul, real agents: what is registered is seen, at once; what is refused says why; what is forgotten comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use consul::{
    Check, Client, Error, Expect, Health, Instances, KeyQuery, Registrar, Registration,
    ServiceQuery, State, Vitals, Watch, Weights,
};
use serde_json::json;
use testkit::Consul;
use testkit::consul::MANAGEMENT;
use testkit::wait::{eventually, within};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(20);

fn client(consul: &Consul) -> Client {
    with_token(consul, None)
}

fn with_token(consul: &Consul, token: Option<&str>) -> Client {
    Client::new(consul.url().parse().unwrap(), token).unwrap()
}

fn service(name: &str) -> ServiceQuery {
    ServiceQuery {
        service: name.to_owned(),
        ..ServiceQuery::default()
    }
}

fn health(found: &Instances) -> Vec<(&str, &Health)> {
    found
        .list
        .iter()
        .map(|one| (one.id.as_str(), &one.health))
        .collect()
}

/// The next answer for which `expected` holds.
async fn until(
    watch: &mut Watch<ServiceQuery>,
    what: &str,
    expected: impl Fn(&Instances) -> bool,
) -> Instances {
    let found = async {
        loop {
            let seen = watch.next().await;
            if expected(&seen.value) {
                return seen.value;
            }
        }
    };
    within(what, PATIENCE, found).await
}

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
async fn missing_rights_are_named_and_the_token_is_not() {
    let consul = Consul::with_acls().await;
    consul
        .register("s", "a", "127.0.0.1:5001".parse().unwrap(), json!({}))
        .await;
    let secret = consul.token("key \"other\" { policy = \"read\" }").await;
    let poor = with_token(&consul, Some(&secret));

    let seen = within(
        "an answer",
        PATIENCE,
        Watch::new(poor.clone(), service("s")).next(),
    )
    .await;
    assert!(seen.value.list.is_empty() && seen.meta.filtered, "{seen:?}");
    for (error, expected) in [
        (poor.get("a/b").await.unwrap_err(), "`key:read` on `a/b`"),
        (
            poor.put("a/b", "x", Expect::Anything).await.unwrap_err(),
            "`key:write` on `a/b`",
        ),
        (
            with_token(&consul, Some("0000"))
                .get("k")
                .await
                .unwrap_err(),
            "`key:read` on `k`",
        ),
        (
            with_token(&consul, None).get("k").await.unwrap_err(),
            "`key:read` on `k`",
        ),
    ] {
        assert!(
            error.is_forbidden() && error.to_string().contains(expected),
            "{error}"
        );
        assert!(!error.to_string().contains(&secret), "{error}");
    }
    assert_eq!(poor.get("other").await, Ok(None));

    let rights = "service_prefix \"\" { policy = \"read\" } node_prefix \"\" { policy = \"read\" }";
    let reader = consul.token(rights).await;
    let seen = within(
        "an answer",
        PATIENCE,
        Watch::new(with_token(&consul, Some(&reader)), service("s")).next(),
    )
    .await;
    assert!(
        seen.value.list.len() == 1 && !seen.meta.filtered,
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_registration_that_is_refused_says_what_it_lacks() {
    let consul = Consul::with_acls().await;
    let reader = consul
        .token("service_prefix \"\" { policy = \"read\" }")
        .await;
    let (_vitals, receiver) = watch::channel(Vitals::Passing);
    let registrar = Registrar::start(
        with_token(&consul, Some(&reader)),
        registration("r", Check::Ttl(Duration::from_secs(5))),
        receiver,
    );
    let status = registrar.status();
    eventually("a refused registration", PATIENCE, async || {
        match status.get().state {
            State::Away(error) if error.to_string().contains("`service:write` on `r`") => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn keys_are_watched_and_written_by_one_writer_at_a_time() {
    let consul = Consul::dev().await;
    let client = client(&consul);
    let query = KeyQuery {
        key: "config/prod/gate way".to_owned(),
        datacenter: None,
    };
    let key = query.key.clone();
    let mut watch = Watch::new(client.clone(), query);
    assert_eq!(
        within("an answer", PATIENCE, watch.next()).await.value,
        None
    );

    assert_eq!(client.put(&key, "one", Expect::Nothing).await, Ok(true));
    assert_eq!(
        client.put(&key, "other", Expect::Nothing).await,
        Ok(false),
        "somebody was first"
    );
    let seen = within("the value", PATIENCE, watch.next())
        .await
        .value
        .unwrap();
    assert_eq!(seen.value.as_ref(), b"one");
    assert_eq!(
        client
            .put(&key, "two", Expect::Modified(seen.modified))
            .await,
        Ok(true)
    );
    assert_eq!(
        client
            .put(&key, "three", Expect::Modified(seen.modified))
            .await,
        Ok(false)
    );
    let seen = within("the value", PATIENCE, watch.next())
        .await
        .value
        .unwrap();
    assert_eq!(seen.value.as_ref(), b"two");

    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    assert_eq!(
        client
            .put("config/prod/z", bytes.clone(), Expect::Anything)
            .await,
        Ok(true)
    );
    let all = client.list("config/").await.unwrap();
    let keys: Vec<&str> = all.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["config/prod/gate way", "config/prod/z"]);
    assert_eq!(all[1].value, bytes);
    assert_eq!(client.delete(&key, Expect::Modified(1)).await, Ok(false));
    assert_eq!(
        client.delete(&key, Expect::Modified(seen.modified)).await,
        Ok(true)
    );
    assert_eq!(within("its end", PATIENCE, watch.next()).await.value, None);
    assert_eq!(client.list("nothing/").await, Ok(Vec::new()));
}

fn registration(name: &str, check: Check) -> Registration {
    Registration {
        name: name.to_owned(),
        address: None,
        port: 5001,
        tags: vec!["v1".to_owned()],
        meta: BTreeMap::from([("admin_port".to_owned(), "81".to_owned())]),
        weights: Weights {
            passing: 2,
            warning: 1,
        },
        check,
        deregister_after: Duration::from_secs(60),
    }
}

async fn expect(consul: &Consul, name: &str, expected: Option<&str>) {
    let what = format!("{name} to be {expected:?} in Consul");
    eventually(&what, PATIENCE, async || {
        let found = consul.instances(name).await;
        let status = found.first().map(|(_, status)| status.as_str());
        if status == expected && found.len() <= 1 {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn an_instance_says_how_it_is_comes_back_and_leaves() {
    let mut consul = Consul::dev().await;
    let (vitals, receiver) = watch::channel(Vitals::Critical("starting".to_owned()));
    let ttl = Check::Ttl(Duration::from_secs(2));
    let mut registrar = Registrar::start(client(&consul), registration("s", ttl), receiver);
    expect(&consul, "s", Some("critical")).await;
    vitals.send_replace(Vitals::Passing);
    assert!(registrar.told(PATIENCE).await);
    expect(&consul, "s", Some("passing")).await;
    // It stays so for longer than its time to live.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(consul.instances("s").await[0].1, "passing");
    }
    consul.kill().await;
    consul.restart().await;
    expect(&consul, "s", Some("passing")).await;

    vitals.send_replace(Vitals::Critical("draining".to_owned()));
    let asked = Instant::now();
    assert!(registrar.told(PATIENCE).await);
    assert!(
        asked.elapsed() < Duration::from_millis(500),
        "{:?}",
        asked.elapsed()
    );
    expect(&consul, "s", Some("critical")).await;
    registrar.leave(PATIENCE).await;
    expect(&consul, "s", None).await;
}

#[tokio::test]
async fn an_instance_that_consul_checks_by_itself_goes_out_of_traffic_at_once_too() {
    let mut consul = Consul::dev().await;
    let admin = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", admin.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = admin.accept().await {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
        }
    });
    let check = Check::Http {
        url,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
    };
    let (vitals, receiver) = watch::channel(Vitals::Passing);
    let mut registrar = Registrar::start(client(&consul), registration("s", check), receiver);
    expect(&consul, "s", Some("passing")).await;
    vitals.send_replace(Vitals::Critical("draining".to_owned()));
    assert!(registrar.told(PATIENCE).await);
    expect(&consul, "s", Some("critical")).await;
    vitals.send_replace(Vitals::Passing);
    expect(&consul, "s", Some("passing")).await;
    consul.kill().await;
    consul.restart().await;
    expect(&consul, "s", Some("passing")).await;
    registrar.leave(PATIENCE).await;
    expect(&consul, "s", None).await;
}

#[tokio::test]
async fn an_instance_on_a_client_agent_is_seen_through_the_server() {
    let server = Consul::server().await;
    let agent = server.client("worker-1").await;
    let (_vitals, receiver) = watch::channel(Vitals::Passing);
    let ttl = Check::Ttl(Duration::from_secs(5));
    let registrar = Registrar::start(client(&agent), registration("s", ttl), receiver);
    expect(&server, "s", Some("passing")).await;
    let mut watch = Watch::new(client(&server), service("s"));
    let found = until(&mut watch, "the instance", |found| found.list.len() == 1).await;
    assert_eq!(found.list[0].node, "worker-1");
    registrar.leave(PATIENCE).await;
    until(&mut watch, "its end", |found| found.list.is_empty()).await;
}

#[tokio::test]
async fn the_way_to_consul_tells_the_own_address() {
    let consul = Consul::absent();
    let address = client(&consul).local_address().await.unwrap();
    assert!(address.is_loopback());
    let error = client(&consul).get("k").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert!(
        with_token(&consul, Some(MANAGEMENT))
            .get("k")
            .await
            .is_err()
    );
}
