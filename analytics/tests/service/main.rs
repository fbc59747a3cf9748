//! The service over a scripted source: events in, gRPC answers out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use highpress_analytics::source::SourceError;
use highpress_analytics::tally::Tally;
use proto::analytics::{StatsRequest, TimeRange, TopCountersRequest};
use testkit::eventually;
use tokio::time::timeout;
use tonic::Code;

use self::harness::{PATIENCE, event, now, ranked, request, start};

#[tokio::test]
async fn rankings_follow_the_events() {
    let mut mesh = start(Arc::new(Tally::in_memory(1 << 30))).await;
    assert_eq!(mesh.top(request("")).await, []);
    mesh.apply(vec![
        event(0, "b", 2, 2),
        event(1, "a", 2, 102),
        event(2, "c", -1, -1),
    ])
    .await;
    assert_eq!(
        mesh.top(request("")).await,
        ranked(&[(1, "a", 2), (2, "b", 2), (3, "c", -1)])
    );
    assert_eq!(
        mesh.top(request("all")).await,
        ranked(&[(1, "a", 102), (2, "b", 2), (3, "c", -1)])
    );
    mesh.apply(vec![event(3, "c", 9, 8)]).await;
    assert_eq!(
        mesh.top(request("hour")).await,
        ranked(&[(1, "c", 8), (2, "a", 2), (3, "b", 2)])
    );

    let top = mesh
        .client
        .get_top_counters(request("month"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (top.period.as_str(), top.counter_type.as_str(), top.exact),
        ("month", "like", true)
    );
    let range = top.range.unwrap();
    assert_eq!(range.end - range.start, 30 * 86400);
    assert!((range.start..range.end).contains(&now()));
    assert!((now() - top.as_of).abs() <= 5);
    assert_eq!(top.next_page_token, "");
}

#[tokio::test]
async fn pages_join_to_the_whole_ranking() {
    let mut mesh = start(Arc::new(Tally::in_memory(1 << 30))).await;
    let names: Vec<String> = (0..25).map(|at| format!("r{at:02}")).collect();
    let events = (0..).zip(&names);
    mesh.apply(
        events
            .map(|(at, name)| event(at, name, 1 + i64::from(at % 3 == 0), 1))
            .collect(),
    )
    .await;
    let whole = mesh
        .top(TopCountersRequest {
            limit: Some(1000),
            ..request("day")
        })
        .await;
    assert_eq!(whole.len(), 25);
    for range in [
        None,
        Some(TimeRange {
            start: now() - 3600,
            end: now() + 60,
        }),
    ] {
        let mut joined = Vec::new();
        let mut page = TopCountersRequest {
            limit: Some(7),
            range,
            ..request("day")
        };
        loop {
            let top = mesh
                .client
                .get_top_counters(page.clone())
                .await
                .unwrap()
                .into_inner();
            joined.extend(
                top.counters
                    .into_iter()
                    .map(|counter| (counter.rank, counter.resource_id, counter.value)),
            );
            if top.next_page_token.is_empty() {
                break;
            }
            page.page_token = top.next_page_token;
        }
        assert_eq!(joined, whole, "{range:?}");
    }
}

#[tokio::test]
async fn stats_sum_up_to_their_total() {
    let mut mesh = start(Arc::new(Tally::in_memory(1 << 30))).await;
    mesh.apply(vec![
        event(0, "a", 30, 30),
        event(1, "a", -6, 24),
        event(2, "b", 1, 1),
    ])
    .await;
    let request = |resolution: &str| StatsRequest {
        resource_id: "a".to_owned(),
        counter_type: "like".to_owned(),
        period: "hour".to_owned(),
        resolution: resolution.to_owned(),
        range: None,
    };
    let stats = mesh
        .client
        .get_counter_stats(request(""))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (stats.total, stats.resolution.as_str(), stats.series.len()),
        (24, "minute", 60)
    );
    assert_eq!(
        stats.series.iter().map(|point| point.value).sum::<i64>(),
        24
    );
    assert_eq!(
        stats.peak,
        stats.series.iter().map(|point| point.value).max().unwrap()
    );
    assert!(
        (stats.average - 24.0 / 60.0).abs() < 1e-9,
        "{}",
        stats.average
    );
    assert!((stats.rate - 24.0 / 3600.0).abs() < 1e-9, "{}", stats.rate);
    assert_eq!(stats.series[0].start, stats.range.unwrap().start);
    let unknown = StatsRequest {
        resource_id: "nobody".to_owned(),
        ..request("hour")
    };
    let stats = mesh
        .client
        .get_counter_stats(unknown)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((stats.total, stats.series.len()), (0, 1));
}

#[tokio::test]
async fn what_does_not_fit_is_invalid_argument() {
    let mut mesh = start(Arc::new(Tally::in_memory(1 << 30))).await;
    for (field, wrong) in [
        (
            "limit",
            TopCountersRequest {
                limit: Some(0),
                ..request("")
            },
        ),
        (
            "limit",
            TopCountersRequest {
                limit: Some(1001),
                ..request("")
            },
        ),
        ("period", request("year")),
        ("counter_type", TopCountersRequest::default()),
    ] {
        let status = mesh.client.get_top_counters(wrong).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{status}");
    }
}

#[tokio::test]
async fn a_watch_gets_changes_at_most_once_a_second_and_ends_with_the_drain() {
    let mut mesh = start(Arc::new(Tally::in_memory(1 << 30))).await;
    let mut lists = mesh
        .client
        .watch_top_counters(request("all"))
        .await
        .unwrap()
        .into_inner();
    let mut next = async || {
        timeout(PATIENCE, lists.message())
            .await
            .expect("a list within 20 s")
    };
    assert_eq!(next().await.unwrap().unwrap().counters, []);
    let begun = tokio::time::Instant::now();
    for at in 0..30 {
        mesh.apply(vec![event(at, "a", 1, i64::try_from(at).unwrap() + 1)])
            .await;
    }
    let mut received = 0;
    loop {
        let list = next().await.unwrap().unwrap();
        received += 1;
        if list.counters[0].value == 30 {
            break;
        }
    }
    assert!(
        received as f64 <= 1.0 + begun.elapsed().as_secs_f64(),
        "{received} lists in {:?}",
        begun.elapsed()
    );
    mesh.drain.begin();
    assert_eq!(next().await.unwrap_err().code(), Code::Unavailable);
    for task in mesh.tasks {
        timeout(PATIENCE, task)
            .await
            .expect("the service ends with the drain")
            .unwrap();
    }
}

#[tokio::test]
async fn a_source_that_is_away_shows_in_readiness_and_comes_back() {
    let mut mesh = start(Arc::new(Tally::in_memory(1 << 30))).await;
    timeout(PATIENCE, mesh.readiness.ready())
        .await
        .expect("ready within 20 s");
    mesh.script
        .send(Err(SourceError::Away("connection refused".into())))
        .unwrap();
    let mut ready = mesh.readiness.subscribe();
    timeout(PATIENCE, ready.wait_for(|ready| !ready))
        .await
        .expect("not ready within 20 s")
        .unwrap();
    assert_eq!(
        mesh.readiness.waiting_for(),
        ["events from script: events are away: connection refused"]
    );
    timeout(PATIENCE, mesh.readiness.ready())
        .await
        .expect("ready again within 20 s");
    mesh.apply(vec![event(0, "a", 1, 1)]).await;
    assert_eq!(mesh.top(request("all")).await, ranked(&[(1, "a", 1)]));
}

#[tokio::test]
async fn positions_beyond_the_end_mean_another_source_and_a_fresh_start() {
    let mut mesh = start(Arc::new(Tally::in_memory(1 << 30))).await;
    mesh.apply(vec![event(0, "old", 1, 1), event(1, "old", 1, 2)])
        .await;
    mesh.script
        .send(Err(SourceError::Foreign {
            partition: 0,
            wanted: 2,
            end: 1,
        }))
        .unwrap();
    mesh.apply(vec![event(0, "new", 1, 1), event(1, "new", 1, 2)])
        .await;
    let client = mesh.client.clone();
    eventually("the new ranking in place of the old", PATIENCE, || {
        let mut client = client.clone();
        async move {
            // Between the old and the new there is nothing, which is an error.
            let top = client.get_top_counters(request("all")).await;
            let top = top.map_err(|status| status.to_string())?.into_inner();
            match top.counters.as_slice() {
                [only] if only.resource_id == "new" && only.value == 2 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_stored_is_told_to_the_source_and_survives() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = start(Arc::new(Tally::open(dir.path(), 1 << 30, now()).unwrap())).await;
    mesh.apply(vec![event(0, "a", 1, 1), event(1, "a", 1, 2)])
        .await;
    mesh.drain.begin();
    for task in mesh.tasks {
        timeout(PATIENCE, task)
            .await
            .expect("the service ends with the drain")
            .unwrap();
    }
    assert_eq!(mesh.stored.load(Ordering::SeqCst), 2);
    drop((mesh.client, mesh.channel));

    let mut mesh = start(Arc::new(Tally::open(dir.path(), 1 << 30, now()).unwrap())).await;
    // Delivered again, as a source may.
    mesh.apply(vec![
        event(0, "a", 1, 1),
        event(1, "a", 1, 2),
        event(2, "a", 1, 3),
    ])
    .await;
    assert_eq!(mesh.top(request("day")).await, ranked(&[(1, "a", 3)]));
}
