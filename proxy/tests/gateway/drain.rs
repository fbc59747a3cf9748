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
