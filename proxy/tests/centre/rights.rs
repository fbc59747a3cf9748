//! A token with too few rights for the key or its history: the missing rule is named, the token is not.

use testkit::Consul;

use super::setup::{Gateway, HISTORY, KEY, file, sends_to};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_is_named_and_the_file_goes_on_serving() {
    let consul = Consul::with_acls().await;
    consul.put_key(KEY, &sends_to("key")).await;
    let poor = consul
        .token("service_prefix \"\" { policy = \"write\" }")
        .await;
    let gateway = Gateway::start(&file(&consul, &poor)).await;
    let line = gateway.program.line_with("starting without it").await;
    assert!(line.contains(&format!("`key:read` on `{KEY}`")), "{line}");
    assert_eq!(gateway.host().await, "file");
    let (status, text) = gateway.ready().await;
    assert_eq!(status, 503, "{text}");
    let config = gateway.config().await;
    let state = config["kv"]["consul"].as_str().unwrap();
    assert!(state.contains("`key:read`"), "{config}");
    assert!(!gateway.program.logs().contains(&poor));

    let reads = consul
        .token("key_prefix \"high-go-press/\" { policy = \"read\" } service_prefix \"\" { policy = \"write\" }")
        .await;
    let gateway = Gateway::start(&file(&consul, &reads)).await;
    gateway.expect_host("key").await;
    let line = gateway.program.line_with("not in the history").await;
    assert!(
        line.contains(&format!("`key:write` on `{HISTORY}")),
        "{line}"
    );
    assert!(!gateway.program.logs().contains(&reads));
}
