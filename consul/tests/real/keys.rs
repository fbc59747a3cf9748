//! Keys: watched, and written by one at a time.

use consul::{Expect, KeyQuery, Watch};
use testkit::Consul;
use testkit::wait::within;

use super::setup::*;

#[tokio::test]
async fn keys_are_watched_and_written_by_one_writer_at_a_time() {
    let consul = Consul::dev().await;
    let client = client(&consul);
    let query = KeyQuery {
        key: "config/prod/gate way".to_owned(),
        datacenter: None,
    };
    let key = query.key.clone();
    let mut watch = Watch::new(client.clone(), query);
    assert_eq!(
        within("an answer", PATIENCE, watch.next()).await.value,
        None
    );

    assert_eq!(client.put(&key, "one", Expect::Nothing).await, Ok(true));
    assert_eq!(
        client.put(&key, "other", Expect::Nothing).await,
        Ok(false),
        "somebody was first"
    );
    let seen = within("the value", PATIENCE, watch.next())
        .await
        .value
        .unwrap();
    assert_eq!(seen.value.as_ref(), b"one");
    assert_eq!(
        client
            .put(&key, "two", Expect::Modified(seen.modified))
            .await,
        Ok(true)
    );
    assert_eq!(
        client
            .put(&key, "three", Expect::Modified(seen.modified))
            .await,
        Ok(false)
    );
    let seen = within("the value", PATIENCE, watch.next())
        .await
        .value
        .unwrap();
    assert_eq!(seen.value.as_ref(), b"two");

    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    assert_eq!(
        client
            .put("config/prod/z", bytes.clone(), Expect::Anything)
            .await,
        Ok(true)
    );
    let all = client.list("config/").await.unwrap();
    let keys: Vec<&str> = all.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["config/prod/gate way", "config/prod/z"]);
    assert_eq!(all[1].value, bytes);
    assert_eq!(client.delete(&key, Expect::Modified(1)).await, Ok(false));
    assert_eq!(
        client.delete(&key, Expect::Modified(seen.modified)).await,
        Ok(true)
    );
    assert_eq!(within("its end", PATIENCE, watch.next()).await.value, None);
    assert_eq!(client.list("nothing/").await, Ok(Vec::new()));
}
