//! Canaries that are judged: taken back to nothing by themselves when they are worse, and only then.

use std::time::Duration;

use serde_json::json;
use testkit::http_backend::{HttpBackend, Step, answer, ok};
use testkit::mesh::Gateway;
use testkit::{Http1, Metrics, eventually};

use super::support::{
    PASSED, PATH, TRANSCODED, admin, gateway, get, http, mesh, named, page, switch,
};

const PATIENCE: Duration = Duration::from_secs(20);
const SPLIT: &str = "    weighted: [{ cluster: old, weight: 80 }, { cluster: new, weight: 20 }]\n";
const MIN: usize = 50;

fn judged(terms: &str) -> String {
    format!("{TRANSCODED}{SPLIT}    canary: {{ cluster: new, min_requests: {MIN}, {terms} }}\n")
}

struct Trial {
    old: HttpBackend,
    new: HttpBackend,
    gateway: Gateway,
}

impl Trial {
    async fn of(old: HttpBackend, new: HttpBackend, terms: &str) -> Self {
        let clusters = [http("old", old.address()), http("new", new.address())];
        let gateway = gateway(&clusters, &judged(terms)).await;
        Self { old, new, gateway }
    }

    fn clusters(&self) -> [String; 2] {
        [
            http("old", self.old.address()),
            http("new", self.new.address()),
        ]
    }

    /// How many of so many requests the canary got.
    async fn canary_gets(&self, requests: usize, headers: &[(&str, &str)]) -> usize {
        let before = self.new.requests();
        let mut client = Http1::connect(self.gateway.http()).await;
        for _ in 0..requests {
            get(&mut client, headers).await;
        }
        self.new.requests() - before
    }

    async fn state_and_share(&self) -> (f64, f64) {
        let labels = [("route", "counters"), ("cluster", "new")];
        let metrics = Metrics::scrape(self.gateway.admin()).await;
        let value = |name| metrics.value(name, &labels).unwrap();
        (
            value("highpress_canary_state"),
            value("highpress_canary_share"),
        )
    }

    async fn reload(&self, route: &str) {
        let version = page(&self.gateway, "/config").await["version"].clone();
        self.gateway.configure(&mesh(&self.clusters(), route));
        eventually("the reload", PATIENCE, || async {
            let now = page(&self.gateway, "/config").await["version"].clone();
            if now == version { Err(now) } else { Ok(()) }
        })
        .await;
    }
}

async fn failing() -> HttpBackend {
    HttpBackend::start(|request| match request.number % 4 {
        0 => answer(500, &[], "broken"),
        _ => ok("new"),
    })
    .await
}

#[tokio::test]
async fn a_canary_that_fails_more_is_taken_back_as_soon_as_there_are_enough_samples() {
    let trial = Trial::of(
        named("old").await,
        failing().await,
        "max_error_ratio_over: 5%",
    )
    .await;
    assert_eq!(trial.state_and_share().await, (1.0, 0.2));
    let got = trial.canary_gets(1000, &[]).await;
    assert!(
        (MIN..MIN + 10).contains(&got),
        "the canary got {got} requests"
    );
    assert_eq!(trial.canary_gets(300, &[]).await, 0);
    assert_eq!(trial.state_and_share().await, (0.0, 0.0));
    let logs = trial.gateway.program.logs();
    let told = logs
        .lines()
        .filter(|line| line.contains("a canary is worse"));
    let told: Vec<&str> = told.collect();
    assert!(
        told.len() == 1 && told[0].contains("% of 5") && told[0].contains("margin 5.0%"),
        "{told:?}"
    );
    let route = page(&trial.gateway, "/routes").await[0].clone();
    assert_eq!(
        (
            &route["canary"]["state"],
            &route["destinations"][1]["share"]
        ),
        (&json!("taken back"), &json!(0.0))
    );
    let explained = admin(&trial.gateway, &format!("/explain?method=GET&path={PATH}"))
        .await
        .text();
    assert!(
        explained.contains("taken back at") && explained.contains("now old 100%, new 0%"),
        "{explained}"
    );
}

#[tokio::test]
async fn a_canary_whose_p99_is_longer_is_taken_back() {
    let slow = HttpBackend::start(|_| {
        let mut steps = vec![Step::Wait(Duration::from_millis(40))];
        steps.extend(ok("new"));
        steps
    })
    .await;
    let usual = HttpBackend::start(|_| {
        let mut steps = vec![Step::Wait(Duration::from_millis(4))];
        steps.extend(ok("old"));
        steps
    })
    .await;
    let trial = Trial::of(usual, slow, "max_p99_over: 100%").await;
    let got = trial.canary_gets(600, &[]).await;
    assert!(
        (MIN..MIN + 10).contains(&got),
        "the canary got {got} requests"
    );
    assert!(
        trial
            .gateway
            .program
            .line_with("a canary is worse")
            .await
            .contains("p99")
    );
}

#[tokio::test]
async fn a_canary_that_is_as_good_or_bad_as_the_others_stays() {
    // Its callers' errors, and what the others do wrong too, are not held against it.
    let bad = || async {
        HttpBackend::start(|request| match request.number % 4 {
            0 => answer(500, &[], "broken"),
            1 | 2 => answer(404, &[], "none"),
            _ => ok("fine"),
        })
        .await
    };
    let trial = Trial::of(bad().await, bad().await, "max_error_ratio_over: 20%").await;
    let got = trial.canary_gets(1000, &[]).await;
    assert!((140..260).contains(&got), "the canary got {got} requests");
    assert_eq!(trial.state_and_share().await, (1.0, 0.2));
}

#[tokio::test]
async fn a_verdict_survives_reloads_until_the_canary_map_changes_or_a_hand_takes_it_back() {
    let terms = "max_error_ratio_over: 5%, header: { x-canary: \"yes\" }";
    let trial = Trial::of(named("old").await, failing().await, terms).await;
    trial.canary_gets(1000, &[]).await;
    let selected = [("x-canary", "yes")];
    assert_eq!(
        trial.canary_gets(50, &selected).await,
        0,
        "nothing means nothing"
    );
    // Another weight is no other canary.
    trial
        .reload(&judged(terms).replace("weight: 20", "weight: 30"))
        .await;
    assert_eq!(
        trial.canary_gets(100, &selected).await + trial.canary_gets(300, &[]).await,
        0
    );
    // A changed map is.
    trial
        .reload(&judged(terms).replace("over: 5%", "over: 6%"))
        .await;
    assert_eq!(trial.state_and_share().await, (1.0, 0.2));
    let got = trial.canary_gets(1000, &[]).await;
    assert!(
        (MIN..MIN + 10).contains(&got),
        "the canary got {got} requests"
    );
    let (status, told) = switch(&trial.gateway, &["counters", "--back"]).await;
    assert_eq!(status, Some(0), "{told}");
    assert_eq!(trial.canary_gets(1, &selected).await, 1);
    assert_eq!(trial.state_and_share().await.0, 1.0);
}

#[tokio::test]
async fn a_verdict_survives_a_kill_and_is_taken_back_by_hand_or_by_another_map() {
    let terms = "max_error_ratio_over: 5%";
    let mut trial = Trial::of(named("old").await, failing().await, terms).await;
    trial.canary_gets(1000, &[]).await;
    let verdicts = trial.gateway.config().with_file_name("data/verdicts.json");
    let kept = async || {
        let text = std::fs::read_to_string(&verdicts).unwrap_or_default();
        let is_there = text.contains("counters");
        if is_there {
            Ok(text)
        } else {
            Err("no verdict")
        }
    };
    let text = eventually("the verdict to be on the disk", PATIENCE, kept).await;
    assert!(text.contains("% of 5"), "{text}");
    trial.gateway.program.kill().await;
    trial.gateway.restart().await;
    assert_eq!(trial.canary_gets(300, &[]).await, 0);
    assert_eq!(trial.state_and_share().await, (0.0, 0.0));
    let program = &trial.gateway.program;
    let line = program.line_with("a canary was taken back before").await;
    assert!(line.contains("% of 5"), "{line}");
    let explained = format!("/explain?method=GET&path={PATH}");
    let explained = admin(&trial.gateway, &explained).await.text();
    assert!(explained.contains("taken back at"), "{explained}");

    let (status, told) = switch(&trial.gateway, &["counters", "--back"]).await;
    assert_eq!(status, Some(0), "{told}");
    assert!(trial.canary_gets(1000, &[]).await >= MIN);
    eventually("the second verdict", PATIENCE, kept).await;
    // A changed map is another canary, at a start too.
    trial.gateway.program.kill().await;
    let other = judged(terms).replace("over: 5%", "over: 6%");
    trial.gateway.configure(&mesh(&trial.clusters(), &other));
    trial.gateway.restart().await;
    assert_eq!(trial.state_and_share().await, (1.0, 0.2));
}

#[tokio::test]
async fn time_that_a_caller_did_not_give_is_not_the_canary_s_fault() {
    for lane in [TRANSCODED, PASSED] {
        let slow = HttpBackend::start(|_| {
            let mut steps = vec![Step::Wait(Duration::from_secs(1))];
            steps.extend(ok("new"));
            steps
        })
        .await;
        let old = named("old").await;
        let clusters = [http("old", old.address()), http("new", slow.address())];
        let route = judged("max_error_ratio_over: 5%, header: { x-canary: \"yes\" }");
        let gateway = gateway(&clusters, &route.replace(TRANSCODED, lane)).await;
        let trial = Trial {
            old,
            new: slow,
            gateway,
        };
        let hurry = [("x-request-timeout", "100ms")];
        let selected = [hurry[0], ("x-canary", "yes")];
        // A request that is passed through and fails takes its connection along.
        for _ in 0..2 * MIN {
            trial.canary_gets(1, &hurry).await;
        }
        for _ in 0..MIN + 20 {
            trial.canary_gets(1, &selected).await;
        }
        assert_eq!(trial.state_and_share().await.0, 1.0, "it stays on trial");
    }
}

#[tokio::test]
async fn what_is_passed_through_is_judged_too() {
    for new in [
        failing().await,
        HttpBackend::start(|_| vec![Step::Reset]).await,
    ] {
        let old = named("old").await;
        let clusters = [http("old", old.address()), http("new", new.address())];
        let route = judged("max_error_ratio_over: 5%").replace(TRANSCODED, PASSED);
        let gateway = gateway(&clusters, &route).await;
        let trial = Trial { old, new, gateway };
        // A request that broke off takes its connection along.
        for _ in 0..700 {
            trial.canary_gets(1, &[]).await;
        }
        let got = trial.new.requests();
        assert!(
            (MIN..MIN + 10).contains(&got),
            "the canary got {got} requests"
        );
        assert_eq!(trial.state_and_share().await, (0.0, 0.0));
    }
}
