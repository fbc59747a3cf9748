//! Switching a route by hand: at once, through reloads and restarts, and never silently to something else.

use std::time::Duration;

use serde_json::json;
use testkit::mesh::Gateway;
use testkit::{Http1, Program, eventually};

use super::support::{
    PASSED, PATH, TRANSCODED, admin, closed, gateway, get, grpc, http, mesh, named, page, switch,
};

const PATIENCE: Duration = Duration::from_secs(20);

async fn answer(gateway: &Gateway) -> String {
    get(&mut Http1::connect(gateway.http()).await, &[]).await
}

#[tokio::test]
async fn a_switch_holds_at_once_and_shows_everywhere_until_it_is_undone() {
    for lane in [TRANSCODED, PASSED] {
        let (new, monolith) = (named("new").await, named("monolith").await);
        let clusters = [
            http("new", new.address()),
            http("monolith", monolith.address()),
        ];
        let gateway = gateway(&clusters, &format!("{lane}    to: new\n")).await;
        let mut client = Http1::connect(gateway.http()).await;
        assert_eq!(get(&mut client, &[]).await, "new");
        let none = (Some(0), "no route is switched by hand\n".to_owned());
        assert_eq!(switch(&gateway, &[]).await, none);
        let (status, told) = switch(&gateway, &["counters", "monolith"]).await;
        assert!(
            status == Some(0) && told.starts_with("counters -> monolith since 2"),
            "{told}"
        );
        for _ in 0..10 {
            assert_eq!(
                get(&mut client, &[]).await,
                "monolith",
                "a connection that was open switches too"
            );
        }
        let switches = &page(&gateway, "/config").await["switches"];
        assert_eq!(
            (&switches[0]["cluster"], &switches[0]["holds"]),
            (&json!("monolith"), &json!(true))
        );
        assert_eq!(page(&gateway, "/routes").await[0]["switched"], "monolith");
        let explained = admin(&gateway, &format!("/explain?method=GET&path={PATH}"))
            .await
            .text();
        assert!(
            explained.contains("goes to    monolith: the route was switched by hand"),
            "{explained}"
        );
        let config = gateway.config();
        for command in [vec!["routes"], vec!["explain"]] {
            let tail: &[&str] = if command[0] == "explain" {
                &["GET", PATH]
            } else {
                &[]
            };
            let program = Program::new("highpress-proxy").args(&command).arg(&config);
            let ended = program.args(tail).run().await;
            assert!(
                ended.output.contains("by hand to monolith"),
                "{command:?}: {}",
                ended.output
            );
        }
        assert_eq!(switch(&gateway, &["counters", "--back"]).await, none);
        assert_eq!(get(&mut client, &[]).await, "new");
        let logs = gateway.program.logs();
        assert!(
            logs.contains("a route was switched by hand")
                && logs.contains("a switch was undone by hand"),
            "{logs}"
        );
    }
}

#[tokio::test]
async fn a_switch_survives_reload_kill_and_restart() {
    let (new, monolith) = (named("new").await, named("monolith").await);
    let clusters = [
        http("new", new.address()),
        http("monolith", monolith.address()),
    ];
    let route = format!("{TRANSCODED}    to: new\n");
    let gateway = gateway(&clusters, &route).await;
    assert_eq!(switch(&gateway, &["counters", "monolith"]).await.0, Some(0));
    let version = page(&gateway, "/config").await["version"].clone();
    gateway.configure(&mesh(&clusters, &format!("{route}    timeout: 4s\n")));
    eventually("the reload", PATIENCE, || async {
        let now = page(&gateway, "/config").await["version"].clone();
        if now == version { Err(now) } else { Ok(()) }
    })
    .await;
    assert_eq!(answer(&gateway).await, "monolith");
    gateway.program.kill().await;
    let restarted = Program::new("highpress-proxy")
        .args(["run", "--config"])
        .arg(gateway.config())
        .start()
        .await;
    let mut client = Http1::connect(restarted.address("http")).await;
    assert_eq!(get(&mut client, &[]).await, "monolith");
    assert!(
        restarted.logs().contains("a route is switched by hand"),
        "{}",
        restarted.logs()
    );
}

#[tokio::test]
async fn what_does_not_exist_cannot_be_switched() {
    let new = named("new").await;
    let clusters = [http("new", new.address()), grpc("calls", closed().await)];
    let gateway = gateway(&clusters, &format!("{PASSED}    to: new\n")).await;
    for (args, why) in [
        (
            vec!["counter", "new"],
            "no route `counter`; there are counters",
        ),
        (vec!["counters", "old"], "no cluster `old`"),
        (
            vec!["counters", "calls"],
            "no cluster `calls` that route `counters` can go to; there are new",
        ),
        (vec!["counters", "--back"], "is not switched"),
        (vec!["counters"], "ROUTE --back"),
    ] {
        let (status, told) = switch(&gateway, &args).await;
        assert!(
            status == Some(2) && told.contains(why),
            "{args:?}: {status:?} {told}"
        );
    }
    assert_eq!(answer(&gateway).await, "new");
    let nobody =
        Program::new("highpress-proxy").args(["switch", "--admin", &closed().await.to_string()]);
    assert_eq!(nobody.run().await.status.code(), Some(1));
}

#[tokio::test]
async fn a_switch_whose_cluster_vanishes_is_kept_and_said_to_be_without_effect() {
    let (new, monolith) = (named("new").await, named("monolith").await);
    let clusters = [
        http("new", new.address()),
        http("monolith", monolith.address()),
    ];
    let route = format!("{TRANSCODED}    to: new\n");
    let gateway = gateway(&clusters, &route).await;
    assert_eq!(switch(&gateway, &["counters", "monolith"]).await.0, Some(0));
    gateway.configure(&mesh(&clusters[..1], &route));
    eventually("the switch to be without effect", PATIENCE, || async {
        let switches = page(&gateway, "/config").await["switches"].clone();
        if switches[0]["holds"] == json!(false) {
            Ok(())
        } else {
            Err(switches)
        }
    })
    .await;
    assert_eq!(answer(&gateway).await, "new");
    assert!(gateway.program.logs().contains("kept but without effect"));
    let (_, told) = switch(&gateway, &[]).await;
    assert!(
        told.contains("without effect: there is no such cluster"),
        "{told}"
    );
    gateway.configure(&mesh(&clusters, &route));
    eventually("the switch to hold again", PATIENCE, || async {
        let now = answer(&gateway).await;
        if now == "monolith" { Ok(()) } else { Err(now) }
    })
    .await;
    // A route that is gone can still be switched back.
    gateway.configure(&mesh(&clusters, &route).replace("name: counters", "name: others"));
    eventually("the route to be gone", PATIENCE, || async {
        let now = answer(&gateway).await;
        if now == "new" { Ok(()) } else { Err(now) }
    })
    .await;
    assert_eq!(switch(&gateway, &["counters", "--back"]).await.0, Some(0));
    assert_eq!(page(&gateway, "/switch").await, json!([]));
}

#[tokio::test]
async fn a_web_page_cannot_switch() {
    let (new, monolith) = (named("new").await, named("monolith").await);
    let clusters = [
        http("new", new.address()),
        http("monolith", monolith.address()),
    ];
    let gateway = gateway(&clusters, &format!("{TRANSCODED}    to: new\n")).await;
    let body = br#"{"route":"counters","cluster":"monolith"}"#;
    let json = ("content-type", "application/json");
    let mut client = Http1::connect(gateway.admin()).await;
    for (headers, status) in [
        (vec![("content-type", "text/plain")], 415),
        (vec![], 415),
        (vec![json, ("origin", "http://evil.example")], 403),
        (vec![json, ("sec-fetch-site", "same-origin")], 403),
    ] {
        let answer = client
            .request("POST", "/switch", &headers, Some(body))
            .await;
        assert_eq!(answer.status, status, "{headers:?}");
    }
    let by_get = client.get("/switch?route=counters&cluster=monolith").await;
    assert_eq!(by_get.status, 200);
    assert_eq!(answer(&gateway).await, "new");
    assert_eq!(
        client
            .request("POST", "/switch", &[json], Some(b"{}"))
            .await
            .status,
        400
    );
    assert_eq!(
        client
            .request("POST", "/switch", &[json], Some(body))
            .await
            .status,
        200
    );
    assert_eq!(answer(&gateway).await, "monolith");
}

#[tokio::test]
async fn a_switch_that_cannot_be_kept_is_not_made() {
    let (new, monolith) = (named("new").await, named("monolith").await);
    let clusters = [
        http("new", new.address()),
        http("monolith", monolith.address()),
    ];
    let gateway = gateway(&clusters, &format!("{TRANSCODED}    to: new\n")).await;
    let data = gateway.config().with_file_name("data");
    std::fs::write(&data, "a file where a directory is needed").unwrap();
    let (status, told) = switch(&gateway, &["counters", "monolith"]).await;
    assert!(
        status == Some(1) && told.contains("nothing was switched"),
        "{told}"
    );
    assert_eq!(answer(&gateway).await, "new");
}

#[tokio::test]
async fn switches_that_cannot_be_read_are_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let new = named("new").await;
    let config = dir.path().join("mesh.yaml");
    let yaml = mesh(
        &[http("new", new.address())],
        &format!("{PASSED}    to: new\n"),
    );
    std::fs::write(&config, yaml).unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::write(dir.path().join("data/switches.json"), "{\"counters\":").unwrap();
    for command in [&["run", "--config"][..], &["routes"]] {
        let program = Program::new("highpress-proxy").args(command).arg(&config);
        let ended = program.run().await;
        assert_eq!(
            ended.status.code(),
            Some(1),
            "{command:?}: {}",
            ended.output
        );
        assert!(
            ended.output.contains("switches.json") && ended.output.contains("mend it"),
            "{}",
            ended.output
        );
    }
}
