//! SIGTERM and SIGINT: the door closes, what is in flight is answered, the exit status is 0.

use std::sync::Arc;
use std::time::Duration;

use testkit::backend::{Answer, Backend};
use testkit::mesh::{self, Gateway};
use testkit::{Http1, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_is_in_flight_is_answered_and_the_rest_turned_away() {
    for signal in ["TERM", "INT"] {
        let slow = Backend::start(|_| Answer::message(b"").after(Duration::from_millis(700))).await;
        let gateway = Gateway::start(&mesh::phase1(slow.address(), slow.address())).await;
        let address = gateway.http();
        let asked = tokio::spawn(async move {
            Http1::connect(address)
                .await
                .get("/api/v1/counter/a/like")
                .await
        });
        let slow = Arc::new(slow);
        eventually("the call to reach the backend", PATIENCE, || async {
            if slow.calls() == 1 {
                Ok(())
            } else {
                Err(slow.calls())
            }
        })
        .await;
        if signal == "TERM" {
            gateway.program.terminate()
        } else {
            gateway.program.interrupt()
        }
        let answer = asked.await.unwrap();
        assert_eq!((signal, answer.status), (signal, 200), "{}", answer.text());
        let status = gateway.program.exit_within(PATIENCE).await;
        assert_eq!(
            (signal, status.code()),
            (signal, Some(0)),
            "{}",
            gateway.program.logs()
        );
    }
}

#[tokio::test]
async fn the_configuration_says_how_long_it_may_take_and_a_reload_says_it_anew() {
    let slow = Backend::start(|_| Answer::message(b"").after(PATIENCE)).await;
    let config = mesh::phase1(slow.address(), slow.address()) + "data: kept\ndrain_timeout: 1h\n";
    let gateway = Gateway::start(&config).await;
    gateway.configure(&config.replace("drain_timeout: 1h", "drain_timeout: 300ms"));
    gateway.program.reload();
    gateway.program.line_with("drain_timeout: changed").await;
    let address = gateway.http();
    let asked = tokio::spawn(async move {
        let mut client = Http1::connect(address).await;
        client.get("/api/v1/counter/a/like").await
    });
    let slow = Arc::new(slow);
    eventually("the call to reach the backend", PATIENCE, || async {
        if slow.calls() == 1 {
            Ok(())
        } else {
            Err(slow.calls())
        }
    })
    .await;
    gateway.program.terminate();
    let status = gateway.program.exit_within(PATIENCE).await;
    assert_eq!(status.code(), Some(0), "{}", gateway.program.logs());
    // Not after the two seconds that the route has.
    let logs = gateway.program.logs();
    assert!(logs.contains("connections were cut"), "{logs}");
    asked.abort();
}

#[tokio::test]
async fn state_is_kept_where_the_file_says() {
    let backend = Backend::start(|_| Answer::message(b"")).await;
    let config = mesh::phase1(backend.address(), backend.address()) + "data: kept/here\n";
    let gateway = Gateway::start(&config).await;
    let route = config.split("- name: ").last().expect("a route");
    let route = route.lines().next().expect("its name");
    let admin = format!("http://{}", gateway.admin());
    let switched = testkit::Program::new("highpress-proxy")
        .args(["switch", route, "counter", "--admin", &admin])
        .run()
        .await;
    assert_eq!(switched.status.code(), Some(0), "{}", switched.output);
    let file = gateway.config().with_file_name("kept").join("here");
    assert!(file.join("switches.json").is_file(), "{}", file.display());
    // The commands look there too.
    let routes = testkit::Program::new("highpress-proxy")
        .arg("routes")
        .arg(gateway.config())
        .run()
        .await;
    assert!(routes.output.contains("switched"), "{}", routes.output);
}
