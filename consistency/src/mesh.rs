//! The mesh: every part once or twice, and a link between any two that talk.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use testkit::{Consul, Http1, Kafka, Program, Redis};
use tokio::sync::{Mutex, MutexGuard};

use crate::link::Link;
use crate::part::{Part, Service};

/// The topic of the events.
pub(crate) const TOPIC: &str = "counter-events";

pub(crate) const CONSUL: &str = "consul";
pub(crate) const REDIS: &str = "redis";
pub(crate) const KAFKA: &str = "kafka";
pub(crate) const COUNTERS: [&str; 2] = ["counter-1", "counter-2"];
pub(crate) const ANALYTICS: [&str; 2] = ["analytics-1", "analytics-2"];
pub(crate) const GATEWAYS: [&str; 2] = ["gateway-1", "gateway-2"];

const TO_CONSUL: &str = "all > consul";
const COUNTERS_TO_REDIS: [&str; 2] = ["counter-1 > redis", "counter-2 > redis"];
const COUNTERS_TO_KAFKA: &str = "counters > kafka";
const ANALYTICS_TO_KAFKA: &str = "analytics > kafka";
const TO_COUNTERS: [&str; 2] = ["gateways > counter-1", "gateways > counter-2"];
const TO_ANALYTICS: [&str; 2] = ["all > analytics-1", "all > analytics-2"];
const TO_GATEWAYS: [&str; 2] = ["clients > gateway-1", "clients > gateway-2"];

/// All parts and links, by name.
pub(crate) struct Mesh {
    parts: BTreeMap<&'static str, Mutex<Part>>,
    links: BTreeMap<&'static str, Arc<Link>>,
    fronts: [SocketAddr; 2],
    /// Where Redis and Kafka are without a link between.
    pub(crate) redis: SocketAddr,
    pub(crate) kafka: SocketAddr,
    _directory: TempDir,
}

impl Mesh {
    /// Starts everything, and waits until all of it is there.
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut links = Links::default();
        let doors = [
            links.add(COUNTERS_TO_KAFKA).await,
            links.add(ANALYTICS_TO_KAFKA).await,
        ];
        let mut kafka = Kafka::behind(&doors.each_ref().map(|door| door.address()));
        let (consul, redis, ()) = tokio::join!(Consul::server(), Redis::start(), kafka.restart());
        kafka.create_topic(TOPIC, 4, &[]).await;
        for (link, door) in doors.iter().zip(kafka.doors()) {
            link.lead_to(*door);
        }
        let to_consul = links.add(TO_CONSUL).await;
        to_consul.lead_to(consul.address());
        let known = Known {
            consul: format!("http://{}", to_consul.address()),
            counters_to_kafka: doors[0].address(),
            analytics_to_kafka: doors[1].address(),
        };
        let mut parts = BTreeMap::new();
        let redis_at = redis.address();
        for n in 0..2 {
            let to_redis = links.add(COUNTERS_TO_REDIS[n]).await;
            to_redis.lead_to(redis_at);
            let front = links.add(TO_COUNTERS[n]).await;
            let counter = known.counter(&front, to_redis.address()).await;
            parts.insert(COUNTERS[n], counter);
            let front = links.add(TO_ANALYTICS[n]).await;
            let data = directory.path().join(ANALYTICS[n]);
            parts.insert(ANALYTICS[n], known.analytics(&front, &data).await);
        }
        let mut fronts = Vec::new();
        for n in 0..2 {
            let front = links.add(TO_GATEWAYS[n]).await;
            let data = directory.path().join(GATEWAYS[n]);
            parts.insert(GATEWAYS[n], known.gateway(&front, &data).await);
            fronts.push(front.address());
        }
        let kafka_at = kafka.address();
        parts.insert(CONSUL, Part::Consul(consul));
        parts.insert(REDIS, Part::Redis(redis));
        parts.insert(KAFKA, Part::Kafka(kafka));
        let parts = parts
            .into_iter()
            .map(|(name, part)| (name, Mutex::new(part)));
        Self {
            parts: parts.collect(),
            links: links.0,
            fronts: [fronts[0], fronts[1]],
            redis: redis_at,
            kafka: kafka_at,
            _directory: directory,
        }
    }

    /// Where clients reach the gateways.
    pub(crate) fn fronts(&self) -> [SocketAddr; 2] {
        self.fronts
    }

    /// The names of all processes.
    pub(crate) fn names_of_parts() -> Vec<&'static str> {
        let pairs = [GATEWAYS, COUNTERS, ANALYTICS];
        let single = [REDIS, KAFKA, CONSUL];
        pairs.into_iter().flatten().chain(single).collect()
    }

    /// The names of all links.
    pub(crate) fn names_of_links() -> Vec<&'static str> {
        let pairs = [TO_GATEWAYS, TO_COUNTERS, COUNTERS_TO_REDIS, TO_ANALYTICS];
        let single = [COUNTERS_TO_KAFKA, ANALYTICS_TO_KAFKA, TO_CONSUL];
        pairs.into_iter().flatten().chain(single).collect()
    }

    /// A process, once nobody else harms it.
    pub(crate) async fn part(&self, name: &str) -> MutexGuard<'_, Part> {
        self.parts.get(name).expect("a name of a part").lock().await
    }

    pub(crate) fn link(&self, name: &str) -> Arc<Link> {
        self.links.get(name).expect("a name of a link").clone()
    }

    /// The `/status` of a service.
    pub(crate) async fn status(&self, name: &str) -> serde_json::Value {
        let Part::Service(service) = &*self.part(name).await else {
            panic!("{name} has no /status");
        };
        let admin = service.admin();
        Http1::connect(admin).await.get("/status").await.json()
    }

    /// Where analytics is reached.
    pub(crate) fn analytics(&self) -> SocketAddr {
        self.link(TO_ANALYTICS[0]).address()
    }
}

/// Links, by name.
#[derive(Default)]
struct Links(BTreeMap<&'static str, Arc<Link>>);

impl Links {
    async fn add(&mut self, name: &'static str) -> Arc<Link> {
        let link = Link::new(name).await;
        self.0.insert(link.name(), link.clone());
        link
    }
}

/// What every service has to know.
struct Known {
    consul: String,
    counters_to_kafka: SocketAddr,
    analytics_to_kafka: SocketAddr,
}

impl Known {
    async fn counter(&self, front: &Arc<Link>, redis: SocketAddr) -> Part {
        let arguments = [
            "--store".to_owned(),
            format!("redis://{redis}"),
            "--events".to_owned(),
            format!("kafka://{}/{TOPIC}", self.counters_to_kafka),
            "--redis-timeout".to_owned(),
            "500ms".to_owned(),
        ];
        self.service("highpress-counter", front, arguments.to_vec())
            .await
    }

    async fn analytics(&self, front: &Arc<Link>, data: &Path) -> Part {
        let arguments = [
            "--source".to_owned(),
            format!("kafka://{}/{TOPIC}", self.analytics_to_kafka),
            "--data".to_owned(),
            data.display().to_string(),
        ];
        self.service("highpress-analytics", front, arguments.to_vec())
            .await
    }

    async fn service(
        &self,
        binary: &'static str,
        front: &Arc<Link>,
        arguments: Vec<String>,
    ) -> Part {
        let (consul, advertised) = (self.consul.clone(), front.address().to_string());
        let make = move || {
            Program::new(binary)
                .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
                .args(["--consul", &consul, "--advertise", &advertised])
                .args(&arguments)
        };
        Part::Service(Service::start(&[("grpc", front)], make).await)
    }

    async fn gateway(&self, front: &Arc<Link>, data: &Path) -> Part {
        std::fs::create_dir_all(data).expect("a directory");
        let config = data.join("mesh.yaml");
        std::fs::write(&config, mesh_yaml(&self.consul)).expect("a file");
        let data = data.to_owned();
        let make = move || {
            Program::new("highpress-proxy")
                .args(["run", "--config"])
                .arg(&config)
                .dir(&data)
        };
        Part::Service(Service::start(&[("http", front)], make).await)
    }
}

/// As a mesh is run, with everything in it that may repeat an increment. The times are short, so that more happens.
fn mesh_yaml(consul: &str) -> String {
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
threads: 2
consul: {{ address: "{consul}" }}
clusters:
  - name: counter
    protocol: grpc
    endpoints: {{ consul: {{ service: high-go-press-counter }} }}
    health_check: {{ interval: 500ms, timeout: 300ms }}
    outlier_detection: {{ base_ejection: 500ms }}
    breaker: {{ hold: 500ms }}
  - name: analytics
    protocol: grpc
    endpoints: {{ consul: {{ service: high-go-press-analytics }} }}
    health_check: {{ interval: 500ms, timeout: 300ms }}
routes:
  - name: counters
    match: {{ path_prefix: /api/v1/counter/ }}
    transcode: {{ services: [counter.CounterService], profile: phase1 }}
    to: counter
    timeout: 3s
    retry: {{ attempts: 4, on: [connect, reset, timeout, refused_stream, unavailable], per_try_timeout: 700ms }}
    hedge: {{ after: 200ms, max: 1 }}
  - name: hot
    match: {{ path_prefix: /api/v1/counter/hot/ }}
    transcode: {{ services: [analytics.AnalyticsService], profile: phase1 }}
    to: analytics
    timeout: 3s
  - name: analytics
    match: {{ path_prefix: /api/v1/analytics/ }}
    transcode: {{ services: [analytics.AnalyticsService], int64: number, defaults: emit }}
    to: analytics
    timeout: 3s
"#
    )
}
