//! Consul, Redis, three counters and the gateway; what can be seen of them in metrics and logs.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use testkit::mesh::Gateway;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Consul, Http1, Metrics, Program, Redis, Running};

use super::load::Load;

/// The service that counters register as.
pub(crate) const SERVICE: &str = "high-go-press-counter";
/// What a gateway needs to be allowed for discovery and for its own registration.
pub(crate) const GATEWAYS_RULES: &str = "service_prefix \"\" { policy = \"read\" } node_prefix \"\" { policy = \"read\" } \
     service \"high-go-press-gateway\" { policy = \"write\" }";
/// What a counter needs.
pub(crate) const COUNTERS_RULES: &str = "service \"high-go-press-counter\" { policy = \"write\" }";

/// For increments too: the counter counts one once, however often it is sent.
const RETRY: &str = "    retry: { on: [connect, reset, timeout, refused_stream, unavailable], attempts: 4, per_try_timeout: 1s }\n";

pub(crate) struct Mesh {
    pub(crate) consul: Consul,
    pub(crate) redis: Redis,
    pub(crate) counters: Vec<Running>,
    pub(crate) gateway: Gateway,
    /// The counters' token, where there are ACLs.
    token: String,
}

impl Mesh {
    /// Three counters, found by a gateway that tries again what a dying or silent one left unanswered.
    pub(crate) async fn start(consul: Consul) -> Self {
        Self::with_tokens(consul, "", "").await
    }

    /// The same without a policy for that.
    pub(crate) async fn without_retries(consul: Consul) -> Self {
        let config = config(&consul, "").replace(RETRY, "");
        Self::with_config(consul, "", &config).await
    }

    /// The same with a configuration in this key too.
    pub(crate) async fn with_key(consul: Consul, key: &str) -> Self {
        let config = config(&consul, "").replace("token: \"\"", &format!("kv: {key}"));
        Self::with_config(consul, "", &config).await
    }

    /// The same where Consul asks for tokens.
    pub(crate) async fn with_tokens(consul: Consul, counters: &str, gateway: &str) -> Self {
        let config = config(&consul, gateway);
        Self::with_config(consul, counters, &config).await
    }

    async fn with_config(consul: Consul, counters: &str, config: &str) -> Self {
        let redis = Redis::start().await;
        let mut mesh = Self {
            gateway: Gateway::start(config).await,
            consul,
            redis,
            counters: Vec::new(),
            token: counters.to_owned(),
        };
        for _ in 0..3 {
            mesh.add().await;
        }
        mesh.expect_usable().await;
        mesh
    }

    /// One more counter.
    pub(crate) async fn add(&mut self) -> SocketAddr {
        let counter = Program::new("highpress-counter")
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--store", &self.redis.url()])
            .args(["--consul", &self.consul.url()])
            .env("CONSUL_HTTP_TOKEN", &self.token)
            .start()
            .await;
        let address = counter.address("grpc");
        self.counters.push(counter);
        address
    }

    pub(crate) fn load(&self) -> Load {
        Load::start(self.gateway.http())
    }

    /// The addresses of all counters that were not taken out of the list.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let address = |counter: &Running| counter.address("grpc");
        self.counters.iter().map(address).collect()
    }

    /// Waits until exactly the counters of the list take requests, as `/clusters` and the metrics have it.
    pub(crate) async fn expect_usable(&self) {
        let mut expected: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        expected.sort();
        let what = format!("the endpoints {expected:?} to be usable");
        eventually(&what, PATIENCE + PATIENCE, async || {
            let all = self.endpoints().await;
            let mut usable: Vec<&String> = all
                .iter()
                .filter(|(_, why)| why.is_none())
                .map(|(at, _)| at)
                .collect();
            usable.sort();
            let metric = self.endpoints_that_are("usable").await;
            if usable.iter().copied().eq(&expected) && metric == Some(expected.len() as f64) {
                Ok(())
            } else {
                Err(format!("{all:?}, by the metric {metric:?}"))
            }
        })
        .await;
    }

    /// Waits until an endpoint takes no requests, for reasons that have all of these in them.
    pub(crate) async fn expect_out(&self, endpoint: SocketAddr, reasons: &[&str]) {
        let what = format!("{endpoint} to be out of rotation: {reasons:?}");
        eventually(&what, PATIENCE, async || {
            let all = self.endpoints().await;
            let why = all.get(&endpoint.to_string()).cloned().flatten();
            let out = why.is_some_and(|why| reasons.iter().all(|reason| why.contains(reason)));
            let metric = self.endpoints_that_are("unusable").await;
            if out && metric.is_some_and(|count| count >= 1.0) {
                Ok(())
            } else {
                Err(format!("{all:?}, unusable by the metric {metric:?}"))
            }
        })
        .await;
    }

    /// By address; why it is not usable.
    async fn endpoints(&self) -> BTreeMap<String, Option<String>> {
        let mut admin = Http1::connect(self.gateway.admin()).await;
        let json = [("accept", "application/json")];
        let clusters = admin.request("GET", "/clusters", &json, None).await.json();
        let endpoints = clusters[0]["endpoints"].as_array().cloned();
        let endpoints = endpoints.unwrap_or_default().into_iter().map(|one| {
            let out = one["usable"] != true;
            let address = one["address"].as_str().unwrap_or_default().to_owned();
            (address, out.then(|| one["reasons"].to_string()))
        });
        endpoints.collect()
    }

    async fn endpoints_that_are(&self, state: &str) -> Option<f64> {
        let labels = [("cluster", "counter"), ("state", state)];
        self.metric("highpress_endpoints", &labels).await
    }

    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let metrics = Metrics::scrape(self.gateway.admin()).await;
        metrics.value(name, labels)
    }

    /// Waits until the gateway's metrics say that Consul answers (with the time since when), or that it does not.
    pub(crate) async fn expect_consul(&self, up: bool) {
        let what = format!("highpress_consul_up to say {up}");
        // Until a silent Consul is noticed takes longer than anything else here.
        eventually(&what, PATIENCE + PATIENCE, async || {
            let labels = [("what", "cluster counter")];
            let said = self.metric("highpress_consul_up", &labels).await;
            let since = self
                .metric("highpress_consul_since_timestamp_seconds", &labels)
                .await;
            if said == Some(f64::from(u8::from(up))) && since.is_some_and(|since| since > 0.0) {
                Ok(())
            } else {
                Err(format!("{said:?} since {since:?}"))
            }
        })
        .await;
    }

    /// Waits for a line of the gateway's log that has all of these in it.
    pub(crate) async fn expect_line(&self, parts: &[&str]) {
        expect_line(&self.gateway.program, parts).await;
    }

    /// Waits until Consul has it that so many counters pass their checks, of so many that it knows.
    pub(crate) async fn expect_registered(&self, passing: usize, of: usize) {
        let what = format!("{passing} passing counters of {of} in Consul");
        eventually(&what, PATIENCE, async || {
            let known = self.consul.instances(SERVICE).await;
            let pass = known.iter().filter(|(_, health)| health == "passing");
            if (pass.count(), known.len()) == (passing, of) {
                Ok(())
            } else {
                Err(format!("{known:?}"))
            }
        })
        .await;
    }
}

/// Waits for a line of a program's log that has all of these in it.
pub(crate) async fn expect_line(program: &Running, parts: &[&str]) {
    let has = |line: &str| parts.iter().all(|part| line.contains(part));
    // A change of rights wakes no blocking query: it is seen when one ends by itself.
    let patience = PATIENCE + PATIENCE;
    eventually(&format!("a line with {parts:?}"), patience, async || {
        let logs = program.logs();
        if logs.lines().any(has) {
            Ok(())
        } else {
            Err(logs)
        }
    })
    .await;
}

pub(crate) fn config(consul: &Consul, token: &str) -> String {
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
threads: 2
consul: {{ address: "{}", token: "{token}" }}
clusters:
  - {{ name: counter, protocol: grpc, endpoints: {{ consul: {{ service: {SERVICE} }} }} }}
routes:
  - name: counters
    match: {{ path_prefix: /api/v1/counter/ }}
    transcode: {{ services: [counter.CounterService], profile: phase1 }}
    to: counter
    timeout: 10s
{RETRY}"#,
        consul.url()
    )
}
