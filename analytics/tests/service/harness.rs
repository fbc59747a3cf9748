//! The service over a source that delivers what a test sends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highpress_analytics::App;
use highpress_analytics::event::{Batch, Event, Origin, Positions};
use highpress_analytics::source::{Delivery, Head, Lag, Source, SourceError};
use highpress_analytics::tally::Tally;
use proto::analytics::analytics_service_client::AnalyticsServiceClient;
use proto::analytics::{GetStatusRequest, TopCountersRequest};
use service_kit::{Drain, Readiness, metrics};
use testkit::eventually;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Script = Result<Batch, SourceError>;

/// Delivers what a test sends.
#[derive(Debug)]
pub(crate) struct Scripted {
    events: mpsc::UnboundedReceiver<Script>,
    told: bool,
    pub(crate) end: Arc<AtomicU64>,
    pub(crate) stored: Arc<AtomicU64>,
}

pub(crate) struct End(Arc<AtomicU64>);

impl Head for End {
    fn lag(&self, applied: &Positions) -> Lag {
        let messages = self
            .0
            .load(Ordering::SeqCst)
            .saturating_sub(applied.next(0));
        Lag {
            messages,
            seconds: if messages == 0 { 0.0 } else { 1.5 },
        }
    }

    fn partitions(&self) -> Option<u32> {
        Some(1)
    }
}

impl Source for Scripted {
    fn name(&self) -> &str {
        "script"
    }

    fn identity(&self) -> String {
        "test".to_owned()
    }

    fn fixed(&self) -> &[u32] {
        &[0]
    }

    fn head(&self) -> Box<dyn Head> {
        Box::new(End(self.end.clone()))
    }

    async fn start(&mut self, _: &Positions) -> Result<(), SourceError> {
        self.told = false;
        Ok(())
    }

    async fn next(&mut self) -> Result<Delivery, SourceError> {
        if !std::mem::replace(&mut self.told, true) {
            return Ok(Delivery::Waiting(None));
        }
        match self.events.recv().await {
            Some(next) => next.map(Delivery::Batch),
            None => std::future::pending().await,
        }
    }

    async fn stored(&mut self, positions: &Positions) -> Result<(), SourceError> {
        self.stored.store(positions.next(0), Ordering::SeqCst);
        Ok(())
    }
}

pub(crate) struct Harness {
    pub(crate) client: AnalyticsServiceClient<Channel>,
    pub(crate) channel: Channel,
    pub(crate) script: mpsc::UnboundedSender<Script>,
    pub(crate) end: Arc<AtomicU64>,
    pub(crate) stored: Arc<AtomicU64>,
    pub(crate) readiness: Readiness,
    pub(crate) drain: Drain,
    pub(crate) tasks: [JoinHandle<()>; 2],
}

pub(crate) async fn start(state: Arc<Tally>) -> Harness {
    let readiness = Readiness::new();
    let drain = Drain::new();
    let (script, events) = mpsc::unbounded_channel();
    let (end, stored) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut registry = metrics::registry("analytics", "test");
    let app = App::new(state, "test", &mut registry, readiness.clone());
    let consumer = app.consume(Scripted {
        events,
        told: false,
        end: end.clone(),
        stored: stored.clone(),
    });
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let consuming = tokio::spawn(consumer.run(drain.clone()));
    let serving = tokio::spawn({
        let drain = drain.clone();
        async move { app.serve(listener, drain, PATIENCE).await.unwrap() }
    });
    let channel = Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let client = AnalyticsServiceClient::new(channel.clone());
    Harness {
        client,
        channel,
        script,
        end,
        stored,
        readiness,
        drain,
        tasks: [consuming, serving],
    }
}

impl Harness {
    pub(crate) fn send(&self, events: Vec<Event<'_>>) {
        self.end
            .store(events.last().unwrap().position + 1, Ordering::SeqCst);
        self.script.send(Ok(batch(&events))).unwrap();
    }

    /// Sends events and waits until they are applied.
    pub(crate) async fn apply(&mut self, events: Vec<Event<'_>>) {
        self.send(events);
        let client = self.client.clone();
        eventually("the events to be applied", PATIENCE, || {
            let mut client = client.clone();
            async move {
                let status = client
                    .get_status(GetStatusRequest {})
                    .await
                    .unwrap()
                    .into_inner();
                match status.lag.unwrap().messages {
                    0 => Ok(()),
                    left => Err(format!("{left} left")),
                }
            }
        })
        .await;
    }

    pub(crate) async fn top(&mut self, request: TopCountersRequest) -> Vec<(i32, String, i64)> {
        let top = self
            .client
            .get_top_counters(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(top.total as usize, top.counters.len());
        top.counters
            .into_iter()
            .map(|counter| (counter.rank, counter.resource_id, counter.value))
            .collect()
    }
}

pub(crate) fn now() -> i64 {
    i64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs(),
    )
    .unwrap()
}

pub(crate) fn batch(events: &[Event<'_>]) -> Batch {
    let mut batch = Batch::new(0, 0);
    events.iter().for_each(|event| batch.push(event));
    batch
}

pub(crate) fn event(position: u64, resource_id: &str, delta: i64, new_value: i64) -> Event<'_> {
    Event {
        position,
        origin: Origin::Log,
        resource_id,
        counter_type: "like",
        delta,
        new_value,
        timestamp_ms: now() * 1000,
    }
}

pub(crate) fn request(period: &str) -> TopCountersRequest {
    TopCountersRequest {
        counter_type: "like".to_owned(),
        period: period.to_owned(),
        ..TopCountersRequest::default()
    }
}

pub(crate) fn ranked(counters: &[(i32, &str, i64)]) -> Vec<(i32, String, i64)> {
    counters
        .iter()
        .map(|(rank, name, value)| (*rank, (*name).to_owned(), *value))
        .collect()
}
