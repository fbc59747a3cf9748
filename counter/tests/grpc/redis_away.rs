//! Redis away, back, frozen, full of strange things: the program stays, says what it waits for, and never guesses.

use std::time::Duration;

use testkit::h2c::H2c;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Http1, Redis, Running};
use tokio::time::Instant;
use tonic::Code;

use prost::Message as _;

use super::setup::{add, batch, connect, get, name, on_free_ports, reason};

async fn start(redis: &Redis) -> Running {
    on_free_ports()
        .args(["--store", &redis.url()])
        .start()
        .await
}

async fn readyz(counter: &Running) -> (u16, String) {
    let page = Http1::connect(counter.address("admin"))
        .await
        .get("/readyz")
        .await;
    (page.status, page.text())
}

async fn until_ready(counter: &Running) {
    eventually("/readyz to be 200", PATIENCE, async || {
        match readyz(counter).await {
            (200, _) => Ok(()),
            (_, text) => Err(text),
        }
    })
    .await;
}

async fn until_not_ready(counter: &Running) -> String {
    eventually("/readyz to be 503", PATIENCE, async || {
        match readyz(counter).await {
            (503, text) => Ok(text),
            (_, text) => Err(text),
        }
    })
    .await
}

#[tokio::test]
async fn a_redis_that_comes_later_is_waited_for() {
    let mut redis = Redis::stopped();
    let counter = start(&redis).await;
    let client = connect(&counter).await;
    let waiting = until_not_ready(&counter).await;
    assert!(waiting.contains(&redis.url()), "{waiting}");
    let begun = Instant::now();
    let error = add(&client, "a", "like", 1).await.unwrap_err();
    assert_eq!(
        (error.code(), reason(&error).as_str()),
        (Code::Unavailable, "STORE_UNAVAILABLE"),
        "{error:?}"
    );
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "refused at once, not after {:?}",
        begun.elapsed()
    );
    redis.restart().await;
    until_ready(&counter).await;
    assert_eq!(add(&client, "a", "like", 1).await.unwrap().current_value, 1);
}

#[tokio::test]
async fn a_redis_that_dies_is_found_again() {
    let mut redis = Redis::start().await;
    let counter = start(&redis).await;
    let client = connect(&counter).await;
    assert_eq!(add(&client, "a", "like", 5).await.unwrap().current_value, 5);
    redis.kill().await;
    let waiting = until_not_ready(&counter).await;
    assert!(waiting.contains(&redis.url()), "{waiting}");
    for error in [
        get(&client, "a", "like").await.unwrap_err(),
        batch(&client, &[("a", "like")]).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    }
    redis.restart().await;
    until_ready(&counter).await;
    assert_eq!(add(&client, "a", "like", 1).await.unwrap().current_value, 6);
}

/// The command reached a Redis that does not answer: the caller hears in bounded time that the outcome is unknown, and it is
/// carried out once at most, whatever happens next.
#[tokio::test]
async fn a_frozen_redis_is_an_unknown_outcome_within_the_timeout() {
    let redis = Redis::start().await;
    let counter = on_free_ports()
        .args(["--store", &redis.url(), "--redis-timeout", "300ms"])
        .start()
        .await;
    let client = connect(&counter).await;
    assert_eq!(add(&client, "a", "like", 1).await.unwrap().current_value, 1);
    redis.freeze().await;
    let begun = Instant::now();
    let error = add(&client, "a", "like", 10).await.unwrap_err();
    assert_eq!(
        (error.code(), reason(&error).as_str()),
        (Code::Unavailable, "OUTCOME_UNKNOWN"),
        "{error:?}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "answered after {:?}",
        begun.elapsed()
    );
    until_not_ready(&counter).await;
    let error = add(&client, "a", "like", 100).await.unwrap_err();
    assert_eq!(
        reason(&error),
        "STORE_UNAVAILABLE",
        "known not to have been sent: {error:?}"
    );
    redis.thaw();
    until_ready(&counter).await;
    let count = get(&client, "a", "like").await.unwrap();
    assert!(
        count == 1 || count == 11,
        "carried out once or not at all, never repeated: {count}"
    );
}

/// `grpc-timeout` holds on the server too, and ends as the code that means it.
#[tokio::test]
async fn a_spent_deadline_is_deadline_exceeded() {
    let redis = Redis::start().await;
    let counter = start(&redis).await;
    // A client without deadlines of its own, so that the answer is the server's.
    let client = H2c::connect(counter.address("grpc")).await;
    let request = name("a", "like").encode_to_vec();
    let get = async |timeout: &str| {
        client
            .grpc(
                "/counter.CounterService/GetCounter",
                &[("grpc-timeout", timeout)],
                &request,
            )
            .await
    };
    assert_eq!(get("5S").await.code, Code::Ok as u32);
    redis.freeze().await;
    let begun = Instant::now();
    let spent = get("200m").await;
    assert_eq!(spent.code, Code::DeadlineExceeded as u32, "{spent:?}");
    assert!(
        begun.elapsed() >= Duration::from_millis(200)
            && begun.elapsed() < Duration::from_millis(900)
    );
    let malformed = get("soon").await;
    assert_eq!(
        malformed.code,
        Code::InvalidArgument as u32,
        "{malformed:?}"
    );
}

#[tokio::test]
async fn existing_keys_go_on_as_they_stand() {
    let redis = Redis::start().await;
    redis
        .command(&["SET", "counter:article_001:like", "41"])
        .await;
    let counter = start(&redis).await;
    let client = connect(&counter).await;
    assert_eq!(get(&client, "article_001", "like").await.unwrap(), 41);
    assert_eq!(
        add(&client, "article_001", "like", 1)
            .await
            .unwrap()
            .current_value,
        42
    );
    assert_eq!(
        redis.command(&["GET", "counter:article_001:like"]).await,
        "42"
    );
    assert_eq!(
        redis.command(&["DBSIZE"]).await,
        ":1",
        "nothing else is stored"
    );
}

#[tokio::test]
async fn what_is_not_a_count_is_a_clear_error_for_its_caller_only() {
    let redis = Redis::start().await;
    redis.command(&["SET", "counter:text:like", "many"]).await;
    redis.command(&["SET", "counter:float:like", "1.5"]).await;
    redis.command(&["RPUSH", "counter:list:like", "1"]).await;
    redis.command(&["SET", "counter:fine:like", "7"]).await;
    let counter = start(&redis).await;
    let client = connect(&counter).await;
    for resource in ["text", "float", "list"] {
        let key = format!("counter:{resource}:like");
        let errors = [
            add(&client, resource, "like", 1).await.unwrap_err(),
            get(&client, resource, "like").await.unwrap_err(),
            batch(
                &client,
                &[("fine", "like"), (resource, "like"), ("nobody", "like")],
            )
            .await
            .unwrap_err(),
        ];
        for error in errors {
            assert_eq!(
                (error.code(), reason(&error).as_str()),
                (Code::FailedPrecondition, "NOT_A_COUNT"),
                "{error:?}"
            );
            assert!(error.message().contains(&key), "{}", error.message());
        }
    }
    // In one pipeline with the broken ones, the good one is counted.
    let (bad, good) = tokio::join!(
        add(&client, "list", "like", 1),
        add(&client, "fine", "like", 1)
    );
    assert_eq!(bad.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(good.unwrap().current_value, 8);
    assert_eq!(redis.command(&["GET", "counter:text:like"]).await, "many");
}
