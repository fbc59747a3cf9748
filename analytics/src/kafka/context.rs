//! What the client library tells while it works: its lines go to our log, where most of them are only for debugging.
//!
//! What it finds worth a warning is most often an outage, which `ends` tells once.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};

/// A client that has nothing to say itself, or (`T`) a function that is told what becomes of each message.
pub(super) struct Context<T>(pub(super) T);

/// Told what becomes of each message.
pub(super) type Delivered = Box<dyn Fn(&DeliveryResult<'_>) + Send + Sync>;

impl<T: Send + Sync> ClientContext for Context<T> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        failed(&error, reason);
    }
}

impl ConsumerContext for Context<()> {}

impl ProducerContext for Context<Delivered> {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        (self.0)(delivered);
    }
}

/// A line of the library.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    if matches!(
        level,
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical
    ) {
        tracing::error!(facility, "{message}");
    } else {
        tracing::debug!(facility, "{message}");
    }
}

/// An error of the library that concerns no message.
pub(super) fn failed(error: &KafkaError, reason: &str) {
    tracing::debug!(%error, reason, "Kafka's library");
}
