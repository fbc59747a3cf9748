//! Weighted splits and canaries by header, cookie and share, in both lanes, by counting.

use testkit::Http1;
use testkit::http_backend::HttpBackend;
use testkit::mesh::Gateway;

use super::support::{PASSED, TRANSCODED, gateway, get, http, named};

const REQUESTS: usize = 1000;

struct Two {
    old: HttpBackend,
    new: HttpBackend,
    gateway: Gateway,
}

async fn two(lane: &str, destinations: &str) -> Two {
    let (old, new) = (named("old").await, named("new").await);
    let clusters = [http("old", old.address()), http("new", new.address())];
    let gateway = gateway(&clusters, &format!("{lane}{destinations}")).await;
    Two { old, new, gateway }
}

/// The part of `REQUESTS` that went to the new one. `headers` are those of each request by its number.
async fn share(two: &Two, headers: impl Fn(usize) -> Vec<(&'static str, String)>) -> f64 {
    let before = two.new.requests();
    let mut client = Http1::connect(two.gateway.http()).await;
    for number in 0..REQUESTS {
        let headers = headers(number);
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        get(&mut client, &headers).await;
    }
    (two.new.requests() - before) as f64 / REQUESTS as f64
}

/// Five standard deviations of a share of `REQUESTS`: once in two million runs it is more.
fn assert_about(share: f64, expected: f64) {
    let deviation = (expected * (1.0 - expected) / REQUESTS as f64).sqrt();
    assert!(
        (share - expected).abs() <= 5.0 * deviation,
        "{share} is not about {expected}"
    );
}

#[tokio::test]
async fn requests_are_split_by_weight_in_both_lanes() {
    for lane in [TRANSCODED, PASSED] {
        let weighted =
            "    weighted: [{ cluster: old, weight: 95 }, { cluster: new, weight: 5 }]\n";
        let two = two(lane, weighted).await;
        assert_about(share(&two, |_| Vec::new()).await, 0.05);
        assert_eq!(two.old.requests() + two.new.requests(), REQUESTS);
    }
}

#[tokio::test]
async fn a_weight_of_zero_gets_nothing() {
    let weighted = "    weighted: [{ cluster: old, weight: 1 }, { cluster: new, weight: 0 }]\n";
    let two = two(TRANSCODED, weighted).await;
    assert_eq!(share(&two, |_| Vec::new()).await, 0.0);
}

#[tokio::test]
async fn a_sticky_split_sends_a_user_to_one_side_and_few_move_when_weights_change() {
    let lanes = [
        (TRANSCODED, "{ header: x-user }"),
        (PASSED, "{ cookie: user }"),
    ];
    for (lane, on) in lanes {
        let with = |old: u32, new: u32| {
            format!(
                "    weighted: [{{ cluster: old, weight: {old} }}, {{ cluster: new, weight: {new} }}]\n    hash_on: {on}\n"
            )
        };
        let two = two(lane, &with(70, 30)).await;
        let user = |number: usize| {
            vec![
                ("x-user", format!("u{number}")),
                ("cookie", format!("a=b; user=u{number}")),
            ]
        };
        let sides = |gateway| async move {
            let mut client = Http1::connect(gateway).await;
            let mut sides = Vec::new();
            for number in 0..REQUESTS {
                let headers = user(number);
                let headers: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                sides.push(get(&mut client, &headers).await);
            }
            sides
        };
        let (first, second) = (
            sides(two.gateway.http()).await,
            sides(two.gateway.http()).await,
        );
        assert_eq!(first, second, "{lane}");
        let new = first.iter().filter(|side| *side == "new").count();
        assert_about(new as f64 / REQUESTS as f64, 0.3);
        // More weight for one side: nobody leaves it, and only as many come as have to.
        let clusters = [
            http("old", two.old.address()),
            http("new", two.new.address()),
        ];
        let other = gateway(&clusters, &format!("{lane}{}", with(70, 70))).await;
        let third = sides(other.http()).await;
        let left = first
            .iter()
            .zip(&third)
            .filter(|(before, after)| *before == "new" && *after == "old");
        assert_eq!(left.count(), 0, "{lane}");
    }
}

#[tokio::test]
async fn a_canary_gets_its_share_and_those_whose_header_or_cookie_fits() {
    let canary = "    to: old\n    canary: { cluster: new, share: 10%, header: { x-canary: \"yes\" }, cookie: { canary: \"1\" } }\n";
    for lane in [TRANSCODED, PASSED] {
        let two = two(lane, canary).await;
        assert_about(share(&two, |_| Vec::new()).await, 0.1);
        assert_eq!(
            share(&two, |_| vec![("x-canary", "yes".to_owned())]).await,
            1.0
        );
        assert_eq!(
            share(&two, |_| vec![("cookie", "b=2; canary=1".to_owned())]).await,
            1.0
        );
        assert_about(
            share(&two, |_| vec![("x-canary", "no".to_owned())]).await,
            0.1,
        );
    }
}

#[tokio::test]
async fn a_canary_by_header_alone_gets_nothing_else() {
    let canary = "    to: old\n    canary: { cluster: new, header: { x-canary: \"yes\" } }\n";
    let two = two(TRANSCODED, canary).await;
    assert_eq!(share(&two, |_| Vec::new()).await, 0.0);
    let mut client = Http1::connect(two.gateway.http()).await;
    assert_eq!(get(&mut client, &[("x-canary", "yes")]).await, "new");
}
