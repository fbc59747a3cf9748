//! Idempotency keys in a Redis that dies, hangs, forgets scripts, refuses writes: a repeat finds out what became of the first.

use testkit::wait::{PATIENCE, eventually, within};
use testkit::{Metrics, Redis, Running};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::setup::{Client, Key, add, add_once, connect, get, on_free_ports, reason};

pub(crate) async fn start(redis: &Redis) -> Running {
    on_free_ports()
        .args(["--store", &redis.url(), "--redis-timeout", "300ms"])
        .start()
        .await
}

/// The same increment under the same key until it is answered; whether that was a replay.
async fn until_answered(client: &Client, key: &str) -> bool {
    eventually(
        &format!("an answer to {key}"),
        PATIENCE,
        async || match add_once(client, "a", "like", 1, Key::client(key)).await {
            Ok((_, replayed)) => Ok(replayed),
            Err(error) if error.code() == Code::Unavailable => Err(error.message().to_owned()),
            Err(error) => panic!("an outcome that is not known is UNAVAILABLE: {error:?}"),
        },
    )
    .await
}

/// 64 calls under keys of their own, each repeated until it is answered.
fn load(client: &Client, round: usize) -> JoinSet<bool> {
    let mut tasks = JoinSet::new();
    for n in 0..64 {
        let client = client.clone();
        tasks.spawn(async move { until_answered(&client, &format!("{round}-{n}")).await });
    }
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_in_mid_call_counts_every_key_once() {
    let mut redis = Redis::start().await;
    let counter = start(&redis).await;
    let client = connect(&counter).await;
    for round in 0..4 {
        let mut tasks = load(&client, round);
        for _ in 0..(round * 16) {
            tasks.join_next().await;
        }
        redis.kill().await;
        redis.restart().await;
        within("every call to be answered", PATIENCE, tasks.join_all()).await;
        let count = eventually("Redis to be found again", PATIENCE, async || {
            get(&client, "a", "like").await
        })
        .await;
        assert_eq!(count, 64 * (round as i64 + 1), "after {} kills", round + 1);
    }
}

/// The first try sits in the socket of a stopped Redis and is carried out when that goes on, before or after its repeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stopped_in_mid_call_counts_every_key_once() {
    let redis = Redis::start().await;
    let counter = start(&redis).await;
    let client = connect(&counter).await;
    assert!(!until_answered(&client, "before").await);
    for round in 0..3 {
        redis.freeze().await;
        let error = add_once(&client, "a", "like", 1, Key::client(&format!("{round}-0")))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), reason(&error).as_str()),
            (Code::Unavailable, "OUTCOME_UNKNOWN")
        );
        let tasks = load(&client, round);
        redis.thaw();
        within("every call to be answered", PATIENCE, tasks.join_all()).await;
        let count = eventually("Redis to be found again", PATIENCE, async || {
            get(&client, "a", "like").await
        })
        .await;
        assert_eq!(
            count,
            1 + 64 * (round as i64 + 1),
            "after {} stops",
            round + 1
        );
    }
}

#[tokio::test]
async fn a_redis_that_lost_the_script_is_given_it_again() {
    let redis = Redis::start().await;
    let counter = start(&redis).await;
    let client = connect(&counter).await;
    for n in 1..=3 {
        redis.command(&["SCRIPT", "FLUSH"]).await;
        let (answer, replayed) = add_once(&client, "a", "like", 1, Key::client(&format!("k{n}")))
            .await
            .unwrap();
        assert_eq!((answer.current_value, replayed), (n, false));
    }
    assert!(
        add_once(&client, "a", "like", 1, Key::client("k1"))
            .await
            .unwrap()
            .1
    );
}

/// Nothing was counted where Redis refuses to write, and the same call is counted once when it writes again.
#[tokio::test]
async fn a_redis_that_refuses_writes_counts_nothing_and_still_replays() {
    let redis = Redis::start().await;
    let counter = start(&redis).await;
    let client = connect(&counter).await;
    assert!(!until_answered(&client, "early").await);
    let refusals: [(&[&str], &[&str], &str); 2] = [
        (
            &["CONFIG", "SET", "maxmemory", "1"],
            &["CONFIG", "SET", "maxmemory", "0"],
            "OOM",
        ),
        (
            &["REPLICAOF", "127.0.0.1", "1"],
            &["REPLICAOF", "NO", "ONE"],
            "READONLY",
        ),
    ];
    for (n, (refuse, accept, word)) in refusals.into_iter().enumerate() {
        redis.command(refuse).await;
        let key = format!("late-{n}");
        let refused = |error: Status| {
            assert_eq!(
                (error.code(), reason(&error).as_str()),
                (Code::Unavailable, "STORE_UNAVAILABLE"),
                "{error:?}"
            );
            assert!(error.message().contains(word), "{error:?}");
        };
        let call = || add_once(&client, "a", "like", 1, Key::client(&key));
        refused(call().await.unwrap_err());
        refused(add(&client, "a", "like", 1).await.unwrap_err());
        assert!(
            add_once(&client, "a", "like", 1, Key::client("early"))
                .await
                .unwrap()
                .1
        );
        redis.command(accept).await;
        let (answer, replayed) = call().await.unwrap();
        assert_eq!((answer.current_value, replayed), (n as i64 + 2, false));
    }
}

/// Items of one batch: what is wrong with one is told to its caller alone.
#[tokio::test]
async fn a_bad_item_does_not_harm_the_others_of_its_batch() {
    let redis = Redis::start().await;
    redis.command(&["SET", "counter:text:like", "many"]).await;
    redis.command(&["RPUSH", "counter:list:like", "1"]).await;
    let top = i64::MAX.to_string();
    redis.command(&["SET", "counter:top:like", &top]).await;
    redis.command(&["SET", "counter:fine:like", "41"]).await;
    let counter = start(&redis).await;
    let client = connect(&counter).await;
    let call = |resource, key| add_once(&client, resource, "like", 1, Key::client(key));
    // Stopped, so that they gather; the first one is a batch of its own.
    redis.command(&["CLIENT", "PAUSE", "100", "ALL"]).await;
    let (_, text, list, over, fine, gateways, plain) = tokio::join!(
        call("first", "k"),
        call("text", "k"),
        call("list", "k"),
        call("top", "k"),
        call("fine", "k"),
        add_once(&client, "fine", "like", 1, Key::gateway("k")),
        add(&client, "fine", "like", 1)
    );
    for error in [text.unwrap_err(), list.unwrap_err()] {
        assert_eq!(
            (error.code(), reason(&error).as_str()),
            (Code::FailedPrecondition, "NOT_A_COUNT")
        );
    }
    assert_eq!(over.unwrap_err().code(), Code::OutOfRange);
    let mut values =
        [fine.unwrap().0, gateways.unwrap().0, plain.unwrap()].map(|answer| answer.current_value);
    values.sort_unstable();
    assert_eq!(values, [42, 43, 44], "existing counts go on");
    // What failed is not remembered: mended, the same call counts.
    redis.command(&["SET", "counter:text:like", "7"]).await;
    let (answer, replayed) = call("text", "k").await.unwrap();
    assert_eq!((answer.current_value, replayed), (8, false));
}

/// What is in the way of the keys themselves is known before anything is counted.
#[tokio::test]
async fn a_foreign_value_in_place_of_the_keys_counts_nothing() {
    let redis = Redis::start().await;
    redis
        .command(&["SET", "{highpress}:keys:client", "mine"])
        .await;
    let counter = start(&redis).await;
    let client = connect(&counter).await;
    let error = add_once(&client, "a", "like", 1, Key::client("k"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), reason(&error).as_str()),
        (Code::Unavailable, "STORE_UNAVAILABLE")
    );
    assert_eq!(get(&client, "a", "like").await.unwrap(), 0);
    assert_eq!(add(&client, "a", "like", 1).await.unwrap().current_value, 1);
    redis.command(&["DEL", "{highpress}:keys:client"]).await;
    assert_eq!(
        add_once(&client, "a", "like", 1, Key::client("k"))
            .await
            .unwrap()
            .0
            .current_value,
        2
    );
}

/// Two instances share the keys, as they share the counts.
#[tokio::test]
async fn another_instance_knows_the_key() {
    let redis = Redis::start().await;
    let (one, two) = (start(&redis).await, start(&redis).await);
    let (first, _) = add_once(&connect(&one).await, "a", "like", 3, Key::client("k"))
        .await
        .unwrap();
    let (second, replayed) = add_once(&connect(&two).await, "a", "like", 3, Key::client("k"))
        .await
        .unwrap();
    assert_eq!((&second, replayed), (&first, true));
    let asked = async || {
        let metrics = Metrics::scrape(two.address("admin")).await;
        let bytes = metrics.value(
            "highpress_idempotency_memory_bytes",
            &[("origin", "client")],
        );
        bytes.filter(|bytes| *bytes > 100.0).ok_or("not told yet")
    };
    eventually("the room that keys take", PATIENCE, asked).await;
}

/// The rights of an ACL user, as the documentation gives them.
#[tokio::test]
async fn the_documented_rights_are_enough() {
    let docs = include_str!("../../../docs/counting.md");
    let rights = docs.split('`').find(|text| text.starts_with("~counter:*"));
    let rights: Vec<_> = rights.expect("the docs name them").split(' ').collect();
    let redis = Redis::start().await;
    let user = [&["ACL", "SETUSER", "app", "on", ">secret"], &*rights].concat();
    assert_eq!(redis.command(&user).await, "+OK");
    let url = redis.url().replace("redis://", "redis://app:secret@");
    let counter = on_free_ports().args(["--store", &url]).start().await;
    let client = connect(&counter).await;
    for replayed in [false, true] {
        let answer = add_once(&client, "a", "like", i64::MAX, Key::client("k")).await;
        assert_eq!(answer.unwrap().1, replayed);
    }
    assert_eq!(add(&client, "b", "like", 1).await.unwrap().current_value, 1);
    assert_eq!(get(&client, "a", "like").await.unwrap(), i64::MAX);
    // And with those for events.
    let more = docs
        .split('`')
        .find(|text| text.starts_with("~{highpress}:outbox*"));
    let more: Vec<_> = more.expect("the docs name them").split(' ').collect();
    let user = [&["ACL", "SETUSER", "app"], &*more].concat();
    assert_eq!(redis.command(&user).await, "+OK");
    let events = ["--store", &url, "--events", "kafka://127.0.0.1:1/events"];
    let counter = on_free_ports().args(events).start().await;
    let client = connect(&counter).await;
    add(&client, "b", "like", 1).await.unwrap();
    let status = super::events::outbox(&counter).await;
    assert_eq!(status["unsent"], 1, "{status}");
    let log = redis.command(&["ACL", "LOG"]).await;
    assert_eq!(log, "*0", "nothing was refused");
}
