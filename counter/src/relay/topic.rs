//! The topic: how many partitions it has, and making it where there is none and that is allowed.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;

use super::Trouble;
use super::kafka::{KafkaTarget, Producer};

/// Partitions of a topic that is made here, as the contract has it.
const PARTITIONS: i32 = 4;
const TIMEOUT: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(400);

/// How many partitions the topic has. One that is missing is made, with the broker's default for replicas.
pub(super) async fn partitions(producer: &Producer, target: &KafkaTarget) -> Result<u32, Trouble> {
    if let Some(partitions) = ask(producer, target, TIMEOUT).await? {
        return Ok(partitions);
    }
    make(target).await?;
    ask(producer, target, TIMEOUT).await?.ok_or_else(|| {
        Trouble::new(format!(
            "topic {} was made, but is not there yet",
            target.topic()
        ))
    })
}

/// Whether Kafka answers at once and has the topic.
pub(super) async fn is_there(producer: &Producer, target: &KafkaTarget) -> bool {
    matches!(ask(producer, target, SOON).await, Ok(Some(_)))
}

/// `None` if there is no such topic.
async fn ask(
    producer: &Producer,
    target: &KafkaTarget,
    timeout: Duration,
) -> Result<Option<u32>, Trouble> {
    let (producer, topic) = (producer.inner().clone(), target.topic().to_owned());
    let asked = tokio::task::spawn_blocking(move || {
        let metadata = producer.client().fetch_metadata(Some(&topic), timeout)?;
        let topic = metadata.topics().iter().find(|known| known.name() == topic);
        Ok(topic.map(|topic| {
            (
                topic.error().map(RDKafkaErrorCode::from),
                topic.partitions().len(),
            )
        }))
    });
    let answer: Result<_, rdkafka::error::KafkaError> = asked
        .await
        .map_err(|error| Trouble::new(error.to_string()))?;
    let name = target.topic();
    match answer.map_err(|error| Trouble::new(format!("Kafka is away: {error}")))? {
        None | Some((Some(RDKafkaErrorCode::UnknownTopicOrPartition), _)) => Ok(None),
        Some((Some(error), _)) => Err(Trouble::new(format!("topic {name}: {error}"))),
        Some((None, 0)) => Err(Trouble::new(format!("topic {name} has no partitions yet"))),
        Some((None, partitions)) => Ok(Some(u32::try_from(partitions).unwrap_or(u32::MAX))),
    }
}

async fn make(target: &KafkaTarget) -> Result<(), Trouble> {
    let name = target.topic();
    let failed = |why: String| {
        Trouble::new(format!(
            "there is no topic {name}, and it cannot be made: {why}; make it with {PARTITIONS} partitions"
        ))
    };
    let admin: AdminClient<DefaultClientContext> = target
        .config()
        .create()
        .map_err(|error| failed(error.to_string()))?;
    let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(-1));
    let options = AdminOptions::new()
        .request_timeout(Some(TIMEOUT))
        .operation_timeout(Some(TIMEOUT));
    let made = admin.create_topics([&topic], &options).await;
    let made = made.map_err(|error| failed(error.to_string()))?;
    match made.into_iter().next() {
        Some(Ok(_)) => {
            tracing::info!(
                topic = name,
                partitions = PARTITIONS,
                "there was no such topic: made it"
            );
            Ok(())
        }
        // Another instance was faster.
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, error))) => Err(failed(error.to_string())),
        None => Err(failed("Kafka did not say why".to_owned())),
    }
}
