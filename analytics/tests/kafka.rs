//! The program on a real Kafka: exactly once through kills and outages, dead letters, lag that does not lie.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod events;

use std::time::Duration;

use rdkafka::Message as _;
use rdkafka::message::Headers as _;
use testkit::wait::PATIENCE;
use testkit::{Kafka, eventually};

use self::events::{Analytics, Events, Started};

/// One broker for all of these: a start costs seconds.
#[tokio::test(flavor = "multi_thread")]
async fn every_event_counts_once() {
    let kafka = Kafka::start().await;
    repeats_and_dead_letters(&kafka).await;
    kill_nine_at_any_time(&kafka).await;
    a_topic_that_comes_later(&kafka).await;
}

async fn repeats_and_dead_letters(kafka: &Kafka) {
    let mut events = Events::new(kafka, "repeats", 4).await;
    let analytics = Analytics::new(kafka, "repeats").start().await;
    let mut sent = Vec::new();
    for at in 0..200 {
        sent.push(
            events
                .add(&format!("r{}", at % 17), 1 - (at % 5) / 4 * 3)
                .await,
        );
    }
    // Again, all of them: the relay starts from what it had trimmed last.
    for event in &sent[50..] {
        events.send(event).await;
    }
    let poison = [
        (&b"\xff\xfe not json"[..], "not an event"),
        (br#"{"event_id":"x-1"}"#, "missing field `resource_id`"),
        (
            br#"{"event_id":"x-1","resource_id":"a","counter_type":"like","delta":"1","new_value":1,"timestamp":1}"#,
            "invalid type",
        ),
        (
            br#"{"event_id":"x-1","resource_id":"a","counter_type":"like","delta":1,"new_value":1,"timestamp":-5}"#,
            "timestamp",
        ),
    ];
    for (value, _) in poison {
        events.send_raw(b"key", value).await;
    }
    a_lag_of_zero_is_true(&analytics, &mut events).await;
    let last = events.add("after", 5).await;
    events.send_without_outbox(&last, 9).await;
    events.send_without_outbox(&last, 9).await;
    analytics.caught_up().await;
    assert_eq!(analytics.top("all").await, events.counts());
    assert_eq!(analytics.top("hour").await, events.counts());

    let letters = events::read(kafka, "counter-events-dead-letter", poison.len()).await;
    for ((value, reason), letter) in poison.iter().zip(&letters) {
        assert_eq!(letter.payload(), Some(*value));
        assert_eq!(letter.key(), Some(&b"key"[..]));
        let header = |name| {
            let headers = letter.headers().unwrap();
            let found = headers.iter().find(|header| header.key == name).unwrap();
            String::from_utf8(found.value.unwrap().to_vec()).unwrap()
        };
        assert!(header("reason").contains(reason), "{}", header("reason"));
        assert_eq!(header("source-topic"), "repeats");
        assert!(header("source-partition").parse::<u32>().unwrap() < 4);
        assert!(header("source-offset").parse::<u64>().is_ok());
    }
    let metrics = analytics.metrics().await;
    for line in [
        r#"highpress_analytics_events_total{result="poison"} 4"#,
        r#"highpress_analytics_events_total{result="repeated"} 151"#,
        "highpress_consumer_lag_messages 0",
    ] {
        assert!(metrics.contains(line), "{line} is missing in:\n{metrics}");
    }
}

/// It says that nothing is unread at that moment.
async fn a_lag_of_zero_is_true(analytics: &Started, events: &mut Events) {
    for at in 0..10 {
        events.add("next", at).await;
        analytics.caught_up().await;
        assert_eq!(analytics.top("all").await, events.counts());
    }
}

async fn kill_nine_at_any_time(kafka: &Kafka) {
    let mut events = Events::new(kafka, "kills", 3).await;
    let program = Analytics::new(kafka, "kills");
    let mut analytics = program.start().await;
    for round in 0..5 {
        for at in 0..400 {
            events.add(&format!("r{}", (at * 7 + round) % 31), 1).await;
        }
        // Before, in and after a checkpoint, and once in the middle of the backlog.
        tokio::time::sleep(Duration::from_millis(round as u64 * 350)).await;
        analytics.kill().await;
        analytics = program.start().await;
    }
    analytics.caught_up().await;
    assert_eq!(analytics.top("all").await, events.counts());
    assert_eq!(analytics.top("day").await, events.counts());
    analytics.stop().await;
    // All from the beginning, into an empty directory: the same answers.
    let again = Analytics::new(kafka, "kills").start().await;
    again.caught_up().await;
    assert_eq!(again.top("all").await, events.counts());
    assert_eq!(again.top("day").await, events.counts());
}

async fn a_topic_that_comes_later(kafka: &Kafka) {
    let analytics = Analytics::new(kafka, "later").start().await;
    let waiting = analytics.waits_for("there is no topic later").await;
    assert!(waiting.contains("kafka://"), "{waiting}");
    assert!(analytics.lag().await > 0);
    let mut events = Events::new(kafka, "later", 2).await;
    events.add("a", 3).await;
    analytics.caught_up().await;
    assert_eq!(analytics.top("all").await, events.counts());
}

/// Offsets start again, in another log of the same name: while it is read, or while nobody looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_is_noticed_and_counted_on() {
    let mut kafka = Kafka::start().await;
    let mut events = Events::new(&kafka, "anew", 4).await;
    let program = Analytics::new(&kafka, "anew").args(&["--snapshot-interval", "1s"]);
    let mut analytics = program.start().await;
    let untouched = events.add("untouched", 7).await;
    add_many(&mut events, 100).await;
    analytics.caught_up().await;

    // Fewer than before, read on.
    kafka.lose_everything().await;
    kafka.restart().await;
    kafka.create_topic("anew", 4, &[]).await;
    add_many(&mut events, 20).await;
    is_noticed(&analytics, 1).await;
    expect_all(&analytics, &events).await;

    // More than before, while it is away; some of what was sent before comes again. (A kill would lose what was not stored
    // yet, and no log has it any more.)
    analytics.stop().await;
    kafka.lose_everything().await;
    kafka.restart().await;
    kafka.create_topic("anew", 4, &[]).await;
    events.send(&untouched).await;
    add_many(&mut events, 300).await;
    analytics = program.start().await;
    is_noticed(&analytics, 1).await;
    expect_all(&analytics, &events).await;

    // Counters are in other partitions: what events say is all there is.
    kafka.lose_everything().await;
    kafka.restart().await;
    kafka.create_topic("anew", 3, &[]).await;
    events.add("untouched", 1).await;
    add_many(&mut events, 30).await;
    is_noticed(&analytics, 2).await;
    analytics.caught_up().await;
    assert_eq!(analytics.top("all").await, events.counts());
    analytics.stop().await;
}

async fn add_many(events: &mut Events, many: i64) {
    for at in 0..many {
        events.add(&format!("r{}", at % 10), 1).await;
    }
}

async fn is_noticed(analytics: &Started, times: u32) {
    let line = format!("highpress_analytics_source_renewals_total {times}");
    eventually(&line, PATIENCE * 3, async || {
        let metrics = analytics.metrics().await;
        if metrics.contains(&line) {
            Ok(())
        } else {
            Err(metrics)
        }
    })
    .await;
    let told = analytics.running.logs();
    assert!(told.contains("the topic was made anew"), "{told}");
}

async fn expect_all(analytics: &Started, events: &Events) {
    analytics.caught_up().await;
    for period in ["all", "hour", "month"] {
        assert_eq!(analytics.top(period).await, events.counts(), "{period}");
    }
    assert!(analytics.ranking("all").await.exact);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_kafka_is_told_and_ends_with_it() {
    let mut kafka = Kafka::start().await;
    let mut events = Events::new(&kafka, "counter-events", 4).await;
    let program = Analytics::new(&kafka, "counter-events");
    let analytics = program.start().await;
    for at in 0..100 {
        events.add(&format!("r{}", at % 10), 1).await;
    }
    analytics.caught_up().await;

    kafka.kill().await;
    analytics.waits_for("kafka://").await;
    assert!(analytics.lag().await > 0, "nobody can know that it is 0");
    assert_eq!(analytics.top("all").await, events.counts());
    let as_of = analytics.as_of().await;
    analytics.kill().await;
    // A start without Kafka serves what is stored, and says as of when.
    let analytics = program.start().await;
    assert_eq!(analytics.top("all").await, events.counts());
    assert!(analytics.as_of().await <= as_of);

    kafka.restart().await;
    for at in 0..50 {
        events.add(&format!("r{}", at % 7), 2).await;
    }
    analytics.caught_up().await;
    assert_eq!(analytics.top("all").await, events.counts());

    kafka.freeze().await;
    analytics.waits_for("kafka://").await;
    assert_eq!(analytics.top("all").await, events.counts());
    kafka.thaw();
    events.add("r1", 10).await;
    analytics.caught_up().await;
    assert_eq!(analytics.top("hour").await, events.counts());
    eventually("to be ready again", PATIENCE, async || {
        match analytics.waiting().await.as_str() {
            "" => Ok(()),
            waiting => Err(waiting.to_owned()),
        }
    })
    .await;
}
