//! `- reflection: CLUSTER`.

use serde_json::json;
use testkit::echo::Echo;
use testkit::mesh::{self, Gateway};
use testkit::reflection::Reflection;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Http1, Program};

use super::setup::{admin, answers, config, get, json, orders, ready, v1, waits_for};

#[tokio::test]
async fn the_counter_is_transcoded_from_what_it_says_of_itself() {
    let counter = mesh::counter("memory").await;
    let gateway = Gateway::start(&format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
descriptors: [{{ reflection: counter }}]
clusters:
  - {{ name: counter, protocol: grpc, endpoints: {{ static: ["{}"] }} }}
routes:
  - {{ name: counters, transcode: {{ services: [counter.CounterService], profile: phase1 }}, to: counter }}
"#,
        counter.address("grpc")
    ))
    .await;
    // The backend was there, so the first request is served.
    let mut client = Http1::connect(gateway.http()).await;
    let body = json!({ "resource_id": "a", "counter_type": "like", "delta": 2 });
    let answer = client.post_json("/api/v1/counter/increment", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["data"]["current_value"], 2);
    assert_eq!(admin(&gateway, "/readyz").await.0, 200);
}

#[tokio::test]
async fn both_versions_and_servers_that_give_files_one_by_one_are_understood() {
    let set = orders(&["Get"], "");
    for (versions, one_by_one) in [
        (vec!["v1"], true),
        (vec!["v1alpha"], false),
        (vec!["v1alpha"], true),
    ] {
        let backend = Echo::start(&set).await;
        backend.reflect(Reflection {
            versions,
            one_by_one,
            ..v1(&set)
        });
        let gateway = Gateway::start(&config("reflection: orders", backend.address, "")).await;
        assert_eq!(
            get(&gateway, "/v1/orders/7/get").await,
            (200, r#"{"id":"7"}"#.to_owned())
        );
    }
}

#[tokio::test]
async fn the_rest_is_served_while_the_backend_is_away_and_its_paths_say_so() {
    let set = orders(&["Get"], "");
    let mut away = testkit::backend::Backend::replying(b"").await;
    let address = away.address();
    away.stop().await;
    let mut gateway = Gateway::start(&config("reflection: orders", address, "")).await;
    waits_for(
        &gateway,
        "the descriptors of cluster orders, by reflection: ",
    )
    .await;
    let (status, body) = get(&gateway, "/v1/orders/7/get").await;
    assert_eq!(status, 503, "{body}");
    assert!(
        body.contains("DESCRIPTORS_UNKNOWN") && body.contains("orders.Orders"),
        "{body}"
    );
    assert_eq!(
        get(&gateway, "/anything").await.0,
        302,
        "what others take is served"
    );
    let (_, health) = get(&gateway, "/api/v1/health").await;
    assert!(health.contains("unhealthy"), "{health}");
    assert!(gateway.program.logs().contains("waiting for descriptors"));

    let backend = Echo::at(address, &set).await;
    backend.reflect(v1(&set));
    answers(&gateway, "/v1/orders/7/get", 200).await;
    ready(&gateway).await;

    // It is known from now on, also without the backend.
    gateway.program.terminate();
    gateway.program.exit_within(PATIENCE).await;
    drop(backend);
    gateway.restart().await;
    ready(&gateway).await;
    let (_, body) = get(&gateway, "/v1/orders/7/get").await;
    assert!(!body.contains("DESCRIPTORS_UNKNOWN"), "{body}");
}

#[tokio::test]
async fn another_schema_is_taken_up_without_a_restart() {
    let (one, two) = (
        orders(&["Get"], ""),
        orders(&["Get", "Cancel"], "int64 total = 2;"),
    );
    let backend = Echo::start(&one).await;
    backend.reflect(v1(&one));
    let source = "reflection: orders, interval: 200ms";
    let gateway = Gateway::start(&config(source, backend.address, "")).await;
    answers(&gateway, "/v1/orders/7/get", 200).await;
    let before = json(&gateway, "/config").await["version"].clone();
    // No template fits, so the next route is asked.
    assert_eq!(get(&gateway, "/v1/orders/7/cancel").await.0, 302);
    backend.change(&two);
    answers(&gateway, "/v1/orders/7/cancel?total=3", 200).await;
    // Requests see it a moment before it is told of.
    let now = eventually("another version", PATIENCE, async || {
        let now = json(&gateway, "/config").await;
        if now["version"] == before {
            Err(now)
        } else {
            Ok(now)
        }
    })
    .await;
    assert_eq!(now["history"][0]["summary"], "descriptors: changed");
}

#[tokio::test]
async fn nonsense_changes_nothing_and_holds_no_other_change_up() {
    let set = orders(&["Get"], "");
    let backend = Echo::start(&set).await;
    backend.reflect(v1(&set));
    let source = "reflection: orders, interval: 200ms";
    let gateway = Gateway::start(&config(source, backend.address, "")).await;
    answers(&gateway, "/v1/orders/7/get", 200).await;
    // A schema without the service that a route names, and files that are none.
    let other = orders(&["Get"], "").iter().map(|_| 0xff).collect();
    backend.reflect(Reflection {
        nonsense: Some(other),
        ..v1(&set)
    });
    eventually("the failure is told", PATIENCE, || async {
        let shown = json(&gateway, "/descriptors").await;
        match shown[1]["failure"].as_str() {
            Some(why) if why.contains("no descriptor") => Ok(()),
            _ => Err(shown.to_string()),
        }
    })
    .await;
    assert_eq!(get(&gateway, "/v1/orders/7/get").await.0, 200);

    // A file that is a descriptor, but whose types nobody defines.
    let mut broken = vec![10, 1, b'x', 18, 6];
    broken.extend_from_slice(b"orders");
    broken.extend_from_slice(&[50, 23, 10, 6]);
    broken.extend_from_slice(b"Orders");
    broken.extend_from_slice(&[18, 13, 10, 1, b'M', 18, 3]);
    broken.extend_from_slice(b".NoX"[..3].as_ref());
    broken.extend_from_slice(&[26, 3]);
    broken.extend_from_slice(b".No");
    backend.reflect(Reflection {
        nonsense: Some(broken),
        ..v1(&set)
    });
    eventually("it is refused", PATIENCE, || async {
        let shown = json(&gateway, "/config").await["rejected"].clone();
        match shown["source"].as_str() {
            Some("reflection of orders") => Ok(()),
            _ => Err(shown.to_string()),
        }
    })
    .await;
    assert_eq!(get(&gateway, "/v1/orders/7/get").await.0, 200);
    let more = "log: info";
    gateway.configure(&config(source, backend.address, more));
    eventually("the other change is in force", PATIENCE, || async {
        let shown = json(&gateway, "/config").await;
        match shown["history"][0]["summary"].as_str() {
            Some("log: changed") => Ok(()),
            _ => Err(shown.to_string()),
        }
    })
    .await;
    assert_eq!(json(&gateway, "/descriptors").await[1]["state"], "known");

    backend.reflect(v1(&set));
    eventually("nothing is refused any more", PATIENCE, || async {
        match json(&gateway, "/config").await["rejected"].clone() {
            shown if shown.is_null() => Ok(()),
            shown => Err(shown.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_backend_without_reflection_is_told_of_by_name() {
    let set = orders(&["Get"], "");
    let backend = Echo::start(&set).await;
    let gateway = Gateway::start(&config("reflection: orders", backend.address, "")).await;
    waits_for(
        &gateway,
        "it has no reflection, neither grpc.reflection.v1 nor v1alpha",
    )
    .await;
    let shown = json(&gateway, "/descriptors").await;
    assert_eq!(
        (&shown[0]["source"], &shown[1]["state"]),
        (&json!("builtin"), &json!("waiting"))
    );
}

#[tokio::test]
async fn commands_say_what_only_a_running_gateway_knows() {
    let set = orders(&["Get"], "");
    let backend = Echo::start(&set).await;
    backend.reflect(v1(&set));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mesh.yaml");
    std::fs::write(&file, config("reflection: orders", backend.address, "")).unwrap();
    let command = |words: &[&str]| {
        let program = Program::new("highpress-proxy").arg(words[0]).arg(&file);
        program.args(&words[1..]).dir(folder.path()).run()
    };
    let checked = command(&["check"]).await;
    assert!(checked.status.success(), "{}", checked.output);
    for said in [
        "ok\n",
        "route orders needs the descriptors of orders.Orders",
    ] {
        assert!(checked.output.contains(said), "{}", checked.output);
    }
    let routes = command(&["routes"]).await.output;
    assert!(
        routes.contains("waiting for the descriptors of orders.Orders"),
        "{routes}"
    );
    let explained = command(&["explain", "GET", "/v1/orders/7/get"])
        .await
        .output;
    assert!(
        explained.contains("503: waiting for the descriptors"),
        "{explained}"
    );

    // What a gateway has learnt, commands with its data know too.
    let gateway = Gateway::start(&config("reflection: orders", backend.address, "")).await;
    answers(&gateway, "/v1/orders/7/get", 200).await;
    let data = gateway
        .config()
        .with_file_name("data")
        .display()
        .to_string();
    eventually("it is kept", PATIENCE, || async {
        let routes = command(&["routes", "--data", &data]).await.output;
        match routes.contains("orders.Orders/Get") {
            true => Ok(()),
            false => Err(routes),
        }
    })
    .await;
}

#[tokio::test]
async fn whom_to_ask_is_checked_with_the_file() {
    let cases = [
        (
            "reflection: order",
            "descriptors[1].reflection: there is no cluster `order`, did you mean `orders`?",
        ),
        (
            "reflection: orders, kv: a/b",
            "an item is one source, and this has reflection and kv",
        ),
        (
            "kv: a/b",
            "descriptors[1].kv: it is not known where Consul is",
        ),
        ("kv: /a", "descriptors[1].kv: not a key"),
        (
            "file: x, interval: 1s",
            "descriptors[1].interval: only `reflection` asks again and again",
        ),
        (
            "reflection: orders, interval: 1ms",
            "descriptors[1].interval: that is too often",
        ),
    ];
    for (source, why) in cases {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mesh.yaml");
        std::fs::write(&file, config(source, "127.0.0.1:1".parse().unwrap(), "")).unwrap();
        let checked = Program::new("highpress-proxy")
            .arg("check")
            .arg(&file)
            .run()
            .await;
        assert_eq!(checked.status.code(), Some(2), "{source}");
        assert!(checked.output.contains(why), "{source}: {}", checked.output);
    }
}
