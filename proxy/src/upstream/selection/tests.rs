//! Subsets, tiers, distance, slow start and keys over real endpoints, under paused time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::advance;

use super::super::health::Cause;
use super::super::{Aim, Attempt, CallError, Cluster, Outcome, Upstreams};
use super::*;

const PICKS: usize = 4000;

fn config(endpoints: &str, cluster: &str, route: &str) -> mesh_config::Snapshot {
    let text = format!(
        "locality: {{node: n1, zone: a}}\n\
         clusters: [{{name: c, protocol: http1, endpoints: {{static: [{endpoints}]}}, {cluster}}}]\n\
         routes: [{{name: r, match: {{path_prefix: /}}, to: c, {route}}}]\n"
    );
    let snapshot = mesh_config::parse(&text, Path::new("/"), "test.yaml");
    snapshot.unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

fn mesh(endpoints: &str, cluster: &str) -> (Upstreams, Arc<Cluster>) {
    let upstreams = Upstreams::new(1, Handle::current());
    upstreams.apply(&config(endpoints, cluster, "timeout: 1s").clusters);
    let cluster = upstreams.get("c").unwrap();
    (upstreams, cluster)
}

/// So many endpoints on ports from 1, each with the same further keys.
fn ports(ports: std::ops::RangeInclusive<u16>, more: &str) -> String {
    let one = |port| format!("{{address: \"127.0.0.1:{port}\", {more}}}");
    ports.map(one).collect::<Vec<_>>().join(", ")
}

fn member(cluster: &Cluster, port: u16) -> Arc<Endpoint> {
    let name = format!("127.0.0.1:{port}");
    let members = cluster.members();
    members
        .into_iter()
        .find(|one| **one.name() == *name)
        .unwrap()
}

fn set_usable(cluster: &Cluster, port: u16, usable: bool) {
    let health = &member(cluster, port).health;
    match usable {
        true => health.withdraw(Cause::Ejected),
        false => health.state(Cause::Ejected, "ejected by the test".to_owned()),
    };
    cluster.publish();
}

fn port(attempt: &Attempt) -> u16 {
    let name = attempt.endpoint().name();
    name.rsplit(':').next().unwrap().parse().unwrap()
}

fn pick(cluster: &Arc<Cluster>, aim: Aim<'_>) -> u16 {
    let attempt = cluster.pick(0, &Tried::new(), aim).unwrap();
    let port = port(&attempt);
    attempt.finish(Outcome::Ok);
    port
}

/// The share of the picks that each port gets.
fn shares(cluster: &Arc<Cluster>, aim: Aim<'_>) -> BTreeMap<u16, f64> {
    let mut shares = BTreeMap::new();
    for _ in 0..PICKS {
        *shares.entry(pick(cluster, aim)).or_default() += 1.0 / PICKS as f64;
    }
    shares
}

fn share_of(shares: &BTreeMap<u16, f64>, ports: std::ops::RangeInclusive<u16>) -> f64 {
    shares.range(ports).map(|(_, share)| share).sum()
}

const RANDOM: &str = "load_balancing: {policy: random, locality: zone}";

#[tokio::test(start_paused = true)]
async fn requests_stay_in_the_zone_until_it_is_short_and_spill_in_proportion() {
    let endpoints = format!("{}, {}", ports(1..=4, "zone: a"), ports(5..=12, "zone: b"));
    let (_upstreams, cluster) = mesh(&endpoints, RANDOM);
    for (down, local) in [(0, 1.0), (1, 1.0), (2, 0.7), (3, 0.35), (4, 0.0)] {
        if down > 0 {
            set_usable(&cluster, down, false);
        }
        let found = share_of(&shares(&cluster, Aim::default()), 1..=4);
        assert!(
            (found - local).abs() < 0.04,
            "{down} down: {found}, not {local}"
        );
    }
    let (local, spilled) = cluster.picks();
    assert_eq!(local + spilled, 5 * PICKS as u64);
    assert!(local > 2 * PICKS as u64 && spilled > PICKS as u64);
    // In panic it is of no matter where they are: ten of twelve are out.
    for port in 5..=10 {
        set_usable(&cluster, port, false);
    }
    assert!(cluster.panics());
    assert!((share_of(&shares(&cluster, Aim::default()), 1..=4) - 1.0 / 3.0).abs() < 0.04);
}

#[tokio::test(start_paused = true)]
async fn the_node_comes_before_the_zone() {
    let endpoints = format!(
        "{}, {}, {}",
        ports(1..=2, "node: n1, zone: a"),
        ports(3..=4, "node: n2, zone: a"),
        ports(5..=8, "node: n3, zone: b")
    );
    let rules = "load_balancing: {policy: random, locality: node}";
    let (_upstreams, cluster) = mesh(&endpoints, rules);
    assert_eq!(
        share_of(&shares(&cluster, Aim::default()), 1..=2).round(),
        1.0
    );
    set_usable(&cluster, 1, false);
    let shares = shares(&cluster, Aim::default());
    assert!((share_of(&shares, 2..=2) - 0.7).abs() < 0.04, "{shares:?}");
    assert!((share_of(&shares, 3..=4) - 0.3).abs() < 0.04, "{shares:?}");
    // A further try leaves the node when it has to.
    let tried = Tried::from_iter([member(&cluster, 2)]);
    let attempt = cluster.pick(0, &tried, Aim::default()).unwrap();
    assert!((3..=4).contains(&port(&attempt)));
}

#[tokio::test(start_paused = true)]
async fn a_tier_takes_all_until_it_has_not_enough() {
    let endpoints = format!(
        "{}, {}",
        ports(1..=4, "priority: 0"),
        ports(5..=6, "priority: 1")
    );
    let (_upstreams, cluster) = mesh(&endpoints, "load_balancing: {policy: random}");
    assert!(share_of(&shares(&cluster, Aim::default()), 1..=4) > 0.999);
    set_usable(&cluster, 1, false);
    set_usable(&cluster, 2, false);
    assert!(share_of(&shares(&cluster, Aim::default()), 3..=4) > 0.999);
    set_usable(&cluster, 3, false);
    assert!(share_of(&shares(&cluster, Aim::default()), 5..=6) > 0.999);
    assert!(!cluster.panics());
    let tried = Tried::from_iter([member(&cluster, 5), member(&cluster, 6)]);
    let attempt = cluster.pick(0, &tried, Aim::default()).unwrap();
    assert_eq!(
        port(&attempt),
        4,
        "the other tier, as nobody of this one is left"
    );
}

#[tokio::test(start_paused = true)]
async fn a_subset_is_asked_alone_and_says_so_when_it_has_nobody() {
    let endpoints = format!(
        "{}, {}",
        ports(1..=2, "metadata: {version: v1}"),
        ports(3..=4, "metadata: {version: v2}, tags: [blue]")
    );
    let (_upstreams, cluster) = mesh(&endpoints, "load_balancing: {policy: round_robin}");
    let wanted =
        |route| config(&ports(1..=1, "zone: a"), "slow_start: 1s", route).routes[0].clone();
    let route = wanted("subset: {version: v2, tags: [blue]}");
    let subset = cluster.subset(route.subset.as_ref().unwrap());
    let again = cluster.subset(route.subset.as_ref().unwrap());
    assert!(Arc::ptr_eq(&subset, &again), "a subset is known once");
    let aim = Aim {
        key: None,
        subset: Some(&subset),
    };
    let found = shares(&cluster, aim);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [3, 4]);
    assert!((found[&3] - 0.5).abs() < 0.01);
    member(&cluster, 3)
        .health
        .state(Cause::Unreachable, "refused".to_owned());
    member(&cluster, 4)
        .health
        .state(Cause::Unreachable, "refused".to_owned());
    cluster.publish();
    let error = cluster.pick(0, &Tried::new(), aim).unwrap_err();
    assert!(
        matches!(error, CallError::NoHealthyUpstream(_)),
        "{error:?}"
    );
    let told = error.to_string();
    assert!(
        told.contains("version=v2, tag blue") && told.contains("127.0.0.1:3"),
        "{told}"
    );

    let route = wanted("subset: {version: v2}, subset_fallback: any");
    let any = cluster.subset(route.subset.as_ref().unwrap());
    let aim = Aim {
        key: None,
        subset: Some(&any),
    };
    assert_eq!(
        shares(&cluster, aim).keys().copied().collect::<Vec<_>>(),
        [1, 2]
    );
    let route = wanted("subset: {version: v9}");
    let nobody = cluster.subset(route.subset.as_ref().unwrap());
    let aim = Aim {
        key: None,
        subset: Some(&nobody),
    };
    let told = cluster.pick(0, &Tried::new(), aim).unwrap_err().to_string();
    assert!(
        told.contains("no endpoint is of the subset version=v9"),
        "{told}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_and_a_returning_endpoint_get_their_share_slowly() {
    let rules = "load_balancing: {policy: random}, slow_start: 10s";
    let (upstreams, cluster) = mesh(&ports(1..=2, "weight: 1"), rules);
    let shares_now = || shares(&cluster, Aim::default());
    let found = shares_now();
    assert!(
        (found[&1] - 0.5).abs() < 0.04,
        "at a start nobody is held back: {found:?}"
    );
    advance(Duration::from_secs(20)).await;
    upstreams.apply(&config(&ports(1..=3, "weight: 1"), rules, "timeout: 1s").clusters);
    for (seconds, part) in [(0u64, 0.1), (5, 0.5), (3, 0.8), (2, 1.0)] {
        advance(Duration::from_secs(seconds)).await;
        let found = shares_now();
        let expected = part / (2.0 + part);
        assert!(
            (found[&3] - expected).abs() < 0.04,
            "{found:?}, {expected} expected"
        );
        let weight = cluster.view().endpoints[2].effective_weight;
        assert!((weight - part).abs() < 1e-6, "{weight} at {part}");
    }
    set_usable(&cluster, 1, false);
    advance(Duration::from_secs(60)).await;
    set_usable(&cluster, 1, true);
    assert!((shares_now()[&1] - 0.1 / 2.1).abs() < 0.03, "it is back");
    advance(Duration::from_secs(11)).await;
    assert!(
        (shares_now()[&1] - 1.0 / 3.0).abs() < 0.04,
        "it has been back for long"
    );
}

#[tokio::test(start_paused = true)]
async fn keys_stay_when_others_fail_and_come_back() {
    for policy in ["ring_hash", "maglev"] {
        let rules = format!("load_balancing: {{policy: {policy}}}");
        let (_upstreams, cluster) = mesh(&ports(1..=5, "weight: 1"), &rules);
        let owners = || -> Vec<u16> {
            let aim = |n| Aim {
                key: Some(hash::nth(1, n)),
                subset: None,
            };
            (0..1000).map(|n| pick(&cluster, aim(n))).collect()
        };
        let before = owners();
        assert_eq!(before, owners(), "{policy}");
        set_usable(&cluster, 2, false);
        let without = owners();
        for (before, after) in before.iter().zip(&without) {
            assert!(
                *before == 2 || before == after,
                "{policy}: a key moved needlessly"
            );
            assert_ne!(*after, 2);
        }
        set_usable(&cluster, 2, true);
        assert_eq!(before, owners(), "{policy}: everybody is home again");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_bounds_a_hot_key() {
    let rules = "load_balancing: {policy: ring_hash, bounded_load: 125%}";
    let (upstreams, cluster) = mesh(&ports(1..=4, "weight: 1"), rules);
    let hot = Aim {
        key: Some(42),
        subset: None,
    };
    let held = |count: usize| -> Vec<Attempt> {
        let pick = |_| cluster.pick(0, &Tried::new(), hot).unwrap();
        (0..count).map(pick).collect()
    };
    let most = || {
        cluster
            .members()
            .iter()
            .map(|one| one.load.in_flight())
            .max()
    };
    let attempts = held(100);
    assert_eq!(most(), Some(32), "1.25 times a quarter of 100, rounded up");
    drop(attempts);
    assert_eq!(most(), Some(0));
    // The count outlives a change of the endpoints.
    let attempts = held(40);
    upstreams.apply(&config(&ports(1..=5, "weight: 1"), rules, "timeout: 1s").clusters);
    let more = held(10);
    assert_eq!(most(), Some(13));
    drop((attempts, more));
    assert_eq!(held(6).len(), 6);
    assert_eq!(most(), Some(0), "all are over");
}

#[tokio::test]
async fn a_thousand_endpoints_are_selected_beside_the_requests() {
    let (_upstreams, cluster) = mesh(&ports(1..=1000, "zone: a"), RANDOM);
    let sick = member(&cluster, 7);
    sick.health
        .state(Cause::Ejected, "ejected by the test".to_owned());
    let making = cluster.hold_publishing();
    // Somebody is at it for a long time: neither the news nor a pick waits.
    cluster.reselect();
    for _ in 0..1000 {
        pick(&cluster, Aim::default());
    }
    drop(making);
    let candidates = || -> usize {
        let selections = cluster.selections.load();
        let stages = selections.all().stages.iter();
        stages.map(|stage| stage.candidates.len()).sum()
    };
    assert_eq!(candidates(), 1000, "a note was left, no more");
    // What whoever was at it does next.
    cluster.publish_if_stale();
    assert_eq!(candidates(), 999);

    sick.health.withdraw(Cause::Ejected);
    cluster.reselect();
    let back = async {
        while candidates() != 1000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let made = tokio::time::timeout(Duration::from_secs(20), back).await;
    made.expect("another thread puts the new selection in force");
}
