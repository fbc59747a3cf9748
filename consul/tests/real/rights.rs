//! What a token may not do is said, with the rule that it lacks, and never with the token.

use std::time::Duration;

use consul::{Check, Expect, Registrar, State, Vitals, Watch};
use serde_json::json;
use testkit::Consul;
use testkit::wait::{eventually, within};
use tokio::sync::watch;

use super::setup::*;

#[tokio::test]
async fn missing_rights_are_named_and_the_token_is_not() {
    let consul = Consul::with_acls().await;
    consul
        .register("s", "a", "127.0.0.1:5001".parse().unwrap(), json!({}))
        .await;
    let secret = consul.token("key \"other\" { policy = \"read\" }").await;
    let poor = with_token(&consul, Some(&secret));

    let seen = within(
        "an answer",
        PATIENCE,
        Watch::new(poor.clone(), service("s")).next(),
    )
    .await;
    assert!(seen.value.list.is_empty() && seen.meta.filtered, "{seen:?}");
    for (error, expected) in [
        (poor.get("a/b").await.unwrap_err(), "`key:read` on `a/b`"),
        (
            poor.put("a/b", "x", Expect::Anything).await.unwrap_err(),
            "`key:write` on `a/b`",
        ),
        (
            with_token(&consul, Some("0000"))
                .get("k")
                .await
                .unwrap_err(),
            "`key:read` on `k`",
        ),
        (
            with_token(&consul, None).get("k").await.unwrap_err(),
            "`key:read` on `k`",
        ),
    ] {
        assert!(
            error.is_forbidden() && error.to_string().contains(expected),
            "{error}"
        );
        assert!(!error.to_string().contains(&secret), "{error}");
    }
    assert_eq!(poor.get("other").await, Ok(None));

    let rights = "service_prefix \"\" { policy = \"read\" } node_prefix \"\" { policy = \"read\" }";
    let reader = consul.token(rights).await;
    let seen = within(
        "an answer",
        PATIENCE,
        Watch::new(with_token(&consul, Some(&reader)), service("s")).next(),
    )
    .await;
    assert!(
        seen.value.list.len() == 1 && !seen.meta.filtered,
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_registration_that_is_refused_says_what_it_lacks() {
    let consul = Consul::with_acls().await;
    let reader = consul
        .token("service_prefix \"\" { policy = \"read\" }")
        .await;
    let (_vitals, receiver) = watch::channel(Vitals::Passing);
    let registrar = Registrar::start(
        with_token(&consul, Some(&reader)),
        registration("r", Check::Ttl(Duration::from_secs(5))),
        receiver,
    );
    let status = registrar.status();
    eventually("a refused registration", PATIENCE, async || {
        match status.get().state {
            State::Away(error) if error.to_string().contains("`service:write` on `r`") => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
}
