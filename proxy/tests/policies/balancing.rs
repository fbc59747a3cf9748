//! Which endpoint a real gateway asks: by key, by subset, by zone, and slowly at first.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use testkit::http_backend::{HttpBackend, ok};
use testkit::mesh::Gateway;
use testkit::{Http1, Metrics, eventually};

use super::setup::gateway;

const PATIENCE: Duration = Duration::from_secs(10);
const USERS: usize = 300;

/// Backends that say their number, and labels for each.
struct Backends(Vec<HttpBackend>);

impl Backends {
    async fn start(count: usize) -> Self {
        let mut all = Vec::new();
        for number in 0..count {
            all.push(HttpBackend::start(move |_| ok(&number.to_string())).await);
        }
        Self(all)
    }

    /// The cluster of these, with labels for each and further keys.
    fn cluster(&self, labels: impl Fn(usize) -> String, more: &str) -> String {
        let one = |(number, backend): (usize, &HttpBackend)| {
            let (address, labels) = (backend.address(), labels(number));
            format!("{{ address: \"{address}\"{labels} }}")
        };
        let all: Vec<String> = self.0.iter().enumerate().map(one).collect();
        let all = all.join(", ");
        format!("{{ name: c, protocol: http1, endpoints: {{ static: [{all}] }}{more} }}")
    }
}

fn none(_: usize) -> String {
    String::new()
}

fn route(more: &str) -> String {
    format!("{{ name: r, match: {{ path_prefix: / }}, to: c, timeout: 4s{more} }}")
}

/// Who answers a request.
async fn who(client: &mut Http1, headers: &[(&str, &str)]) -> usize {
    let response = client.request("GET", "/x?n=1", headers, None).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.text().parse().expect("a number")
}

/// Who answers each user.
async fn owners(gateway: &Gateway, header: &str, value: impl Fn(usize) -> String) -> Vec<usize> {
    let mut client = Http1::connect(gateway.http()).await;
    let mut owners = Vec::new();
    for user in 0..USERS {
        owners.push(who(&mut client, &[(header, &value(user))]).await);
    }
    owners
}

fn counts(owners: &[usize]) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for owner in owners {
        *counts.entry(*owner).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn users_stay_with_their_endpoint_and_only_those_of_a_dead_one_move() {
    for (policy, on, header, form) in [
        ("ring_hash", "{ header: x-user }", "x-user", "user-"),
        ("maglev", "{ cookie: sid }", "cookie", "a=b; sid="),
        ("maglev", "{ header: x-user }", "x-user", "user-"),
        ("ring_hash", "{ cookie: sid }", "cookie", "a=b; sid="),
    ] {
        let backends = Backends::start(5).await;
        let rules = format!(", load_balancing: {{ policy: {policy} }}");
        let cluster = backends.cluster(none, &rules);
        let gateway = gateway(&[cluster], &[route(&format!(", hash_on: {on}"))]).await;
        let value = |user: usize| format!("{form}{user}");
        let before = owners(&gateway, header, value).await;
        assert_eq!(before, owners(&gateway, header, value).await, "{policy}");
        let shared = counts(&before);
        assert!(
            shared.len() == 5 && shared.values().all(|count| *count > USERS / 12),
            "{shared:?}"
        );

        let Backends(mut alive) = backends;
        drop(alive.remove(2));
        let after = owners(&gateway, header, value).await;
        let mut orphans = Vec::new();
        for (before, after) in before.iter().zip(&after) {
            match before {
                2 => orphans.push(*after),
                before => assert_eq!(before, after, "{policy}: a user moved needlessly"),
            }
        }
        let taken = counts(&orphans);
        assert!(
            !taken.contains_key(&2) && taken.len() > 2,
            "{policy}: {taken:?}"
        );
    }
}

#[tokio::test]
async fn a_client_is_known_by_its_address_and_without_a_key_nobody_is() {
    for policy in ["ring_hash", "maglev"] {
        let backends = Backends::start(4).await;
        let rules = format!(", load_balancing: {{ policy: {policy} }}");
        let cluster = backends.cluster(none, &rules);
        let by_address = route(", hash_on: address");
        let gateway = gateway(
            &[cluster],
            &[
                by_address,
                "{ name: free, match: { path_prefix: /free }, to: c }".to_owned(),
            ],
        )
        .await;
        let mut owners = Vec::new();
        for _ in 0..20 {
            owners.push(who(&mut Http1::connect(gateway.http()).await, &[]).await);
        }
        assert_eq!(
            counts(&owners).len(),
            1,
            "{policy}: one address, one endpoint"
        );
        let mut client = Http1::connect(gateway.http()).await;
        let mut free = Vec::new();
        for _ in 0..80 {
            let response = client.get("/free").await;
            free.push(response.text().parse().expect("a number"));
        }
        assert_eq!(counts(&free).len(), 4, "{policy}: at random");
    }
}

#[tokio::test]
async fn a_route_asks_its_subset_and_says_which_one_has_nobody() {
    let backends = Backends::start(4).await;
    let labels = |number: usize| match number {
        0 | 1 => ", metadata: { version: v1 }".to_owned(),
        _ => format!(", metadata: {{ version: v2 }}, tags: [t{number}]"),
    };
    let cluster = backends.cluster(labels, ", load_balancing: { policy: round_robin }");
    let part = |name: &str, subset: &str| {
        format!("{{ name: {name}, match: {{ path_prefix: /{name} }}, to: c, {subset} }}")
    };
    let routes = [
        part("v2", "subset: { version: v2 }"),
        part("t3", "subset: { tags: [t3] }"),
        part("v9", "subset: { version: v9 }"),
        part("any", "subset: { version: v9 }, subset_fallback: any"),
    ];
    let gateway = gateway(&[cluster], &routes).await;
    let mut client = Http1::connect(gateway.http()).await;
    let mut asked: HashMap<&str, Vec<usize>> = HashMap::new();
    for name in ["v2", "t3", "any"] {
        for _ in 0..20 {
            let response = client.get(&format!("/{name}")).await;
            let owner = response.text().parse().expect("a number");
            asked.entry(name).or_default().push(owner);
        }
    }
    let who = |name: &str| counts(&asked[name]).into_keys().collect::<Vec<_>>();
    assert_eq!(
        (who("v2"), who("t3"), who("any")),
        (vec![2, 3], vec![3], vec![0, 1, 2, 3])
    );
    let response = client.get("/v9").await;
    assert_eq!(response.status, 503);
    let text = response.text();
    assert!(
        text.contains("NO_HEALTHY_UPSTREAM") && text.contains("version=v9"),
        "{text}"
    );
}

fn zones(number: usize) -> String {
    format!(", zone: {}", if number < 2 { "a" } else { "b" })
}

#[tokio::test]
async fn requests_stay_in_the_zone_and_spill_over_when_it_fails() {
    let backends = Backends::start(6).await;
    let rules = ", load_balancing: { policy: round_robin, locality: zone }";
    let cluster = backends.cluster(zones, rules);
    let text = format!(
        "locality: {{ zone: a }}\nlisteners: [{{ address: 127.0.0.1:0 }}]\nadmin: {{ address: 127.0.0.1:0 }}\n\
         clusters:\n  - {cluster}\nroutes:\n  - {}\n",
        route("")
    );
    let gateway = Gateway::start(&text).await;
    let mut client = Http1::connect(gateway.http()).await;
    let mut ask = async |count: usize| {
        let mut owners = Vec::new();
        for _ in 0..count {
            owners.push(who(&mut client, &[]).await);
        }
        counts(&owners)
    };
    assert_eq!(ask(20).await.into_keys().collect::<Vec<_>>(), [0, 1]);
    let Backends(mut alive) = backends;
    drop(alive.remove(0));
    // The first request finds out; then half of the zone bears 70 %.
    ask(4).await;
    let spread = ask(200).await;
    let local = spread.get(&1).copied().unwrap_or_default();
    assert!(
        (115..=165).contains(&local) && !spread.contains_key(&0),
        "{spread:?}"
    );
    drop(alive.remove(0));
    ask(4).await;
    let spread = ask(40).await;
    assert_eq!(spread.into_keys().collect::<Vec<_>>(), [2, 3, 4, 5]);
    let metrics = Metrics::scrape(gateway.admin()).await;
    let picks = |locality| {
        metrics.counter_value(
            "highpress_picks_total",
            &[("cluster", "c"), ("locality", locality)],
        )
    };
    assert!(picks("local") > 130 && picks("spilled") > 70);
}

#[tokio::test]
async fn an_endpoint_that_is_added_gets_little_at_first() {
    let backends = Backends::start(3).await;
    let Backends(all) = &backends;
    let text = |count: usize| {
        let addresses: Vec<SocketAddr> = all[..count].iter().map(HttpBackend::address).collect();
        let addresses: Vec<String> = addresses.iter().map(|at| format!("\"{at}\"")).collect();
        format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nadmin: {{ address: 127.0.0.1:0 }}\nclusters:\n  - {{ name: c, protocol: http1, \
             endpoints: {{ static: [{}] }}, load_balancing: {{ policy: random }}, slow_start: 8s }}\nroutes:\n  - {}\n",
            addresses.join(", "),
            route("")
        )
    };
    let gateway = Gateway::start(&text(2)).await;
    let weight = async || {
        let mut admin = Http1::connect(gateway.admin()).await;
        let shown = admin
            .request("GET", "/clusters", &[("accept", "application/json")], None)
            .await;
        let endpoint = shown.json()[0]["endpoints"][2].clone();
        endpoint["effective_weight"].as_f64()
    };
    // Those that were there from the start must have grown up, or all would be new alike.
    tokio::time::sleep(Duration::from_secs(8)).await;
    gateway.configure(&text(3));
    eventually("the third endpoint to be there", PATIENCE, || async {
        weight().await.ok_or("it is not")
    })
    .await;
    let mut client = Http1::connect(gateway.http()).await;
    let mut owners = Vec::new();
    for _ in 0..400 {
        owners.push(who(&mut client, &[]).await);
    }
    let early = counts(&owners).get(&2).copied().unwrap_or_default();
    assert!((1..90).contains(&early), "{early} of 400 at the beginning");
    eventually("its weight to be whole", PATIENCE * 2, || async {
        match weight().await {
            Some(1.0) => Ok(()),
            other => Err(format!("it is {other:?}")),
        }
    })
    .await;
    owners.clear();
    for _ in 0..400 {
        owners.push(who(&mut client, &[]).await);
    }
    let late = counts(&owners)[&2];
    assert!((90..180).contains(&late), "{late} of 400 at the end");
}
