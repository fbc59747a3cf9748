//! `LoadBalancer` of a `service-resolver`: which endpoint takes a request, and by what of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use testkit::{Consul, Http1, HttpBackend};

use super::entries::{speaks_http, version, web, write};
use super::setup::Gateway;

/// Three backends of one service, and a gateway whose cluster says nothing of balancing.
struct Three {
    consul: Consul,
    gateway: Gateway,
    _backends: Vec<HttpBackend>,
}

impl Three {
    async fn start(balancing: Value) -> Self {
        let consul = Consul::server().await;
        let mut backends = Vec::new();
        for name in ["a", "b", "c"] {
            backends.push(version(&consul, "web", name, name).await);
        }
        speaks_http(&consul, "web").await;
        let this = Self {
            gateway: Gateway::start(&web(&consul)).await,
            consul,
            _backends: backends,
        };
        this.balance(balancing).await;
        this
    }

    /// Writes the entry, and waits until it is in force.
    async fn balance(&self, balancing: Value) {
        let policy = balancing["Policy"].as_str().unwrap().to_owned();
        let entry = json!({ "Kind": "service-resolver", "Name": "web", "LoadBalancer": balancing });
        write(&self.consul, entry).await;
        self.gateway
            .program
            .line_with(&format!("by {policy}"))
            .await;
        let shown = self.gateway.clusters().await[0]["config_entries"].clone();
        assert_eq!(shown["not_supported"], json!([]), "{shown}");
        assert_eq!(shown["problems"], json!([]), "{shown}");
        let clusters = self.gateway.clusters().await;
        assert_eq!(clusters[1]["policy"], policy, "{clusters}");
    }

    /// Who answers, and the cookie that is set.
    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> (String, Option<String>) {
        let mut connection = Http1::connect(self.gateway.http()).await;
        let answer = connection.request("GET", path, headers, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let cookie = answer.header("set-cookie").map(str::to_owned);
        (answer.text(), cookie)
    }

    /// Everybody who answers requests of fifty users, each of whom must always be answered by the same one.
    async fn owners(
        &self,
        request: impl Fn(usize) -> (String, Vec<(String, String)>),
    ) -> BTreeSet<String> {
        let mut owners = BTreeMap::new();
        for round in 0..3 {
            for user in 0..50 {
                let (path, headers) = request(user);
                let headers: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| (&**name, &**value))
                    .collect();
                let (text, _) = self.ask(&path, &headers).await;
                let known = owners.entry(user).or_insert_with(|| text.clone());
                assert_eq!(*known, text, "user {user} in round {round}");
            }
        }
        owners.into_values().collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_header_query_and_address_stick_to_their_endpoints() {
    let header = json!({ "Policy": "ring_hash", "RingHashConfig": { "MinimumRingSize": 2048, "MaximumRingSize": 4096 },
        "HashPolicies": [{ "Field": "header", "FieldValue": "X-User" }] });
    let three = Three::start(header).await;
    let by_header = |user: usize| {
        (
            "/".to_owned(),
            vec![("x-user".to_owned(), format!("u{user}"))],
        )
    };
    assert_eq!(
        three.owners(by_header).await.len(),
        3,
        "all of them own somebody"
    );
    // Without the header: anywhere.
    let mut any = BTreeSet::new();
    for _ in 0..60 {
        any.insert(three.ask("/", &[]).await.0);
    }
    assert_eq!(any.len(), 3, "{any:?}");

    let query = json!({ "Policy": "maglev", "HashPolicies": [
        { "Field": "query_parameter", "FieldValue": "user", "Terminal": true }, { "SourceIP": true }] });
    three.balance(query).await;
    let by_query = |user: usize| (format!("/?user={user}"), Vec::new());
    assert_eq!(three.owners(by_query).await.len(), 3);
    // All come from one address, which is what the others go by.
    let by_address = |user: usize| (format!("/{user}"), Vec::new());
    assert_eq!(three.owners(by_address).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_is_given_and_found_again_and_other_policies_are_heard() {
    let cookie = json!({ "Policy": "maglev", "HashPolicies": [{ "Field": "cookie", "FieldValue": "sid",
        "CookieConfig": { "TTL": "60s", "Path": "/" } }] });
    let three = Three::start(cookie).await;
    let mut first = BTreeSet::new();
    for _ in 0..20 {
        let (owner, cookie) = three.ask("/", &[]).await;
        let cookie = cookie.expect("a client without a cookie is given one");
        assert!(cookie.contains("; Max-Age=60; Path=/"), "{cookie}");
        let pair = cookie.split(';').next().unwrap().to_owned();
        for _ in 0..5 {
            let (text, again) = three.ask("/", &[("cookie", &pair)]).await;
            assert_eq!((text, again), (owner.clone(), None), "{pair}");
        }
        first.insert(owner);
    }
    assert_eq!(first.len(), 3, "{first:?}");

    let least = json!({ "Policy": "least_request", "LeastRequestConfig": { "ChoiceCount": 3 } });
    three.balance(least).await;
    let shown = three.gateway.clusters().await[0]["config_entries"].to_string();
    assert!(shown.contains("by least_request of 3"), "{shown}");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..60 {
        *counts.entry(three.ask("/", &[]).await.0).or_default() += 1;
    }
    assert_eq!(counts.len(), 3, "{counts:?}");
}
