//! Several instances on a real Kafka: partitions shared, answers put together, deaths and pauses, logs that have been cut.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod events;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use proto::analytics::StatsRequest;
use testkit::{Consul, Kafka, eventually};
use tonic::Code;

use self::events::{Analytics, Events, Started, now_ms};

/// A group notices after 6 s that a member is gone.
const MOVED: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_shared_and_every_instance_answers_for_all() {
    let (kafka, consul) = (Kafka::start().await, Consul::dev().await);
    let mut events = Events::new(&kafka, "shared", 4).await;
    let programs = [(); 3].map(|()| {
        Analytics::new(&kafka, "shared").args(&["--consul", &consul.url(), "--snapshots", "none"])
    });
    let mut running = Vec::new();
    for program in &programs {
        running.push(program.start().await);
    }
    for at in 0..600 {
        events.add(&format!("r{}", at % 41), 1 + at % 3).await;
    }
    let all: Vec<&Started> = running.iter().collect();
    all_share(&all, 4).await;
    all_answer(&all, &events).await;
    a_series_is_found_everywhere(&all, &events).await;

    // One is killed: its partitions move, and until they have its share is missing, by name.
    running[1].kill().await;
    for at in 0..100 {
        events.add(&format!("r{}", at % 41), 2).await;
    }
    let left = [&running[0], &running[2]];
    all_share(&left, 4).await;
    all_answer(&left, &events).await;

    // One is stopped where it stands: the other takes over, and it takes its place again later.
    running[0].running.freeze().await;
    for at in 0..100 {
        events.add(&format!("r{}", at % 29), 1).await;
    }
    all_share(&[&running[2]], 4).await;
    all_answer(&[&running[2]], &events).await;
    running[0].running.thaw();
    let back = programs[1].start().await;
    for at in 0..100 {
        events.add(&format!("r{}", at % 29), -1).await;
    }
    let all = [&running[0], &back, &running[2]];
    all_share(&all, 4).await;
    all_answer(&all, &events).await;
    // One leaves in peace.
    running[2].stop().await;
    let left = [&running[0], &back];
    all_share(&left, 4).await;
    all_answer(&left, &events).await;
}

/// Every partition is somebody's, and everybody has one.
async fn all_share(instances: &[&Started], partitions: usize) {
    eventually("all partitions to be shared", MOVED, async || {
        let mut owned = Vec::new();
        for instance in instances {
            let own = instance.status().await["partitions"].clone();
            owned.push(own.as_array().unwrap().clone());
        }
        let all: BTreeSet<u64> = owned
            .iter()
            .flatten()
            .filter_map(|one| one.as_u64())
            .collect();
        let shared = owned.iter().all(|own| !own.is_empty());
        let once = owned.iter().map(Vec::len).sum::<usize>() == partitions;
        if shared && once && all.len() == partitions {
            Ok(())
        } else {
            Err(format!("{owned:?}"))
        }
    })
    .await;
}

/// Each of them gives the whole ranking.
async fn all_answer(instances: &[&Started], events: &Events) {
    for instance in instances {
        instance.caught_up().await;
    }
    for instance in instances {
        eventually("the whole ranking", MOVED, async || {
            let top = instance.ranking("all").await;
            let hour = instance.top("hour").await;
            let found = instance.top("all").await;
            if top.exact && found == events.counts() && hour == events.counts() {
                Ok(())
            } else {
                let missing = &top.missing_partitions;
                Err(format!(
                    "missing {missing:?}, exact {}, {found:?}",
                    top.exact
                ))
            }
        })
        .await;
    }
}

async fn a_series_is_found_everywhere(instances: &[&Started], events: &Events) {
    for (resource, count) in events.counts() {
        for instance in instances {
            let request = StatsRequest {
                resource_id: resource.clone(),
                counter_type: "like".to_owned(),
                period: "hour".to_owned(),
                ..StatsRequest::default()
            };
            let stats = instance.client().get_counter_stats(request).await.unwrap();
            let stats = stats.into_inner();
            assert_eq!((stats.total, stats.exact), (count, true), "{resource}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_log_goes_on_from_a_snapshot_or_says_so() {
    let kafka = Kafka::start().await;
    a_peer_that_is_away_is_named(&kafka).await;
    from_a_snapshot(&kafka).await;
    without_one(&kafka).await;
}

async fn a_peer_that_is_away_is_named(kafka: &Kafka) {
    let mut events = Events::new(kafka, "named", 2).await;
    let ports = [(); 2].map(|()| {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        held.local_addr().unwrap().to_string()
    });
    let peers = ports.join(",");
    let program = || Analytics::new(kafka, "named").args(&["--peers", &peers]);
    let programs = [program(), program()];
    // The first one has both before the second one comes, which therefore never has the first one's.
    let one = programs[0].start_at(&ports[0]).await;
    all_share(&[&one], 2).await;
    let other = programs[1].start_at(&ports[1]).await;
    all_share(&[&one, &other], 2).await;
    for at in 0..40 {
        events.add(&format!("r{at}"), 1).await;
    }
    all_answer(&[&one, &other], &events).await;
    one.running.freeze().await;
    let part = other.ranking("all").await;
    assert_eq!((part.missing_partitions.len(), part.exact), (1, false));
    assert!((1..40).contains(&part.counters.len()), "{part:?}");
    let request = StatsRequest {
        resource_id: "nobody".to_owned(),
        counter_type: "like".to_owned(),
        ..StatsRequest::default()
    };
    let unsure = other.client().get_counter_stats(request).await.unwrap_err();
    assert_eq!(unsure.code(), Code::Unavailable, "{unsure}");
}

async fn from_a_snapshot(kafka: &Kafka) {
    let mut events = Events::new(kafka, "cut", 3).await;
    let args = [
        "--snapshot-interval",
        "300ms",
        "--snapshots",
        "cut-snapshots",
    ];
    let first = Analytics::new(kafka, "cut").args(&args);
    let analytics = first.start().await;
    for at in 0..300 {
        let event = events.next(
            &format!("r{}", at % 37),
            at % 5 - 1,
            now_ms() - 60_000 * (at % 50),
        );
        events.send(&event).await;
    }
    analytics.caught_up().await;
    let hour = analytics.top("hour").await;
    analytics.running.line_with("a snapshot was written").await;
    kept(kafka, "cut", "cut-snapshots").await;
    analytics.stop().await;
    for (partition, range) in (0..).zip(kafka.offsets("cut").await) {
        kafka.delete_before("cut", partition, range.end).await;
    }
    // What comes after the cut is read from the log.
    events.add("r5", 100).await;
    let other = Analytics::new(kafka, "cut").args(&args).start().await;
    other.caught_up().await;
    assert_eq!(other.top("all").await, events.counts());
    let mut expected = hour;
    expected
        .iter_mut()
        .filter(|(name, _)| name == "r5")
        .for_each(|(_, value)| *value += 100);
    expected.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
    assert_eq!(other.top("hour").await, expected);
    // An own state that is older than the cut gives way to the snapshot too.
    other.stop().await;
}

/// Waits until each partition's newest snapshot is of its end.
async fn kept(kafka: &Kafka, topic: &str, snapshots: &str) {
    let ends = kafka.offsets(topic).await;
    for (partition, range) in ends.iter().enumerate() {
        eventually("a snapshot of the end", MOVED, async || {
            let count = usize::try_from(kafka.offsets(snapshots).await[partition].end).unwrap();
            let found = events::read_partition(kafka, snapshots, partition, count).await;
            match found.last() {
                Some(head) if head["position"] == range.end => Ok(()),
                other => Err(format!("{other:?} of {range:?}")),
            }
        })
        .await;
    }
}

async fn without_one(kafka: &Kafka) {
    let mut events = Events::new(kafka, "lost", 1).await;
    for at in 0..60 {
        events.add(&format!("r{}", at % 6), 1).await;
    }
    kafka.delete_before("lost", 0, 48).await;
    let analytics = Analytics::new(kafka, "lost")
        .args(&["--snapshots", "none"])
        .start()
        .await;
    analytics.caught_up().await;
    analytics.running.line_with("the log has been cut").await;
    // Events carry counts: of all time everything is there, of the hour only what was read.
    assert_eq!(analytics.top("all").await, events.counts());
    let hour: i64 = analytics
        .top("hour")
        .await
        .iter()
        .map(|(_, value)| value)
        .sum();
    assert_eq!(hour, 12);
}
