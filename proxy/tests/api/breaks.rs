//! What new descriptors break for the callers of old ones: told by `check --against`, and refused, warned of or allowed by a
//! running gateway.

use std::time::Duration;

use serde_json::Value;
use testkit::{Http1, eventually};

use super::setup::{Files, SHOP, Shop, descriptors, proxy};

const PATIENCE: Duration = Duration::from_secs(20);

/// Everything at once that breaks somebody, and a few things that do not.
fn broken() -> String {
    SHOP.replace(
        "int64 price = 3;",
        "string price = 3;\n  string added = 20;",
    )
    .replace("bytes picture = 9;", "bytes picture = 19;")
    .replace("  double ratio = 13;\n", "")
    .replace("  BLUE = 2;\n", "")
    .replace(
        "rpc Count(Item) returns (Item);",
        "rpc Added(Item) returns (Item);",
    )
    .replace("put: \"/v1/items/{name}\"", "put: \"/v1/things/{name}\"")
    .replace("response_body: \"part\"", "")
    .replace("string maker = 11;", "string producer = 11;")
}

const BREAKS: [&str; 8] = [
    "shop.v1.Item.price: was int64, is string",
    "shop.v1.Item.picture: its number was 9, and is 19",
    "shop.v1.Item.ratio: the field is gone (number 13)",
    "shop.v1.Colour.BLUE: the value is gone (number 2)",
    "shop.v1.Shop.Count: the method is gone",
    "PUT /v1/items/{name}: the path does not lead to shop.v1.Shop/PutItem any more",
    "POST /v1/items/{part.name}:sell: the answer was `part`, and is the message",
    "shop.v1.Item.maker: number 11 was `maker`, and is `producer`",
];

#[tokio::test]
async fn check_against_lists_what_breaks_and_exits_2() {
    let files = Files::new();
    let old = files.shop("old", SHOP, "");
    let new = files.shop("new", &broken(), "");
    let set = files.write("only.binpb", descriptors(SHOP));
    for old in [&old, &set] {
        let ended = proxy(&["check", "--against"], &[old, &new]).await;
        assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
        for one in BREAKS {
            assert!(
                ended.output.contains(one),
                "{one} is not in\n{}",
                ended.output
            );
        }
        assert_eq!(
            ended.output.lines().count(),
            BREAKS.len(),
            "{}",
            ended.output
        );
    }
    for old in [&old, &set] {
        let ended = proxy(
            &["check", "--against"],
            &[old, &files.shop("same", SHOP, "")],
        )
        .await;
        assert_eq!((ended.status.code(), ended.output.trim()), (Some(0), "ok"));
        let grown = SHOP.replace("bool gift = 2;", "bool gift = 2;\n  string note = 3;");
        let ended = proxy(
            &["check", "--against"],
            &[old, &files.shop("grown", &grown, "")],
        )
        .await;
        assert_eq!((ended.status.code(), ended.output.trim()), (Some(0), "ok"));
    }
    // A way to call that the file itself takes away.
    let named = files.shop("named", SHOP, ", unannotated: true");
    let ended = proxy(&["check", "--against"], &[&named, &old]).await;
    assert_eq!(ended.status.code(), Some(2));
    assert!(
        ended.output.contains("POST /shop.v1.Shop/Count"),
        "{}",
        ended.output
    );
}

async fn config(shop: &Shop) -> Value {
    let mut client = Http1::connect(shop.gateway.admin()).await;
    let headers = [("accept", "application/json")];
    client
        .request("GET", "/config", &headers, None)
        .await
        .json()
}

/// What `/config` says as soon as it is as wanted.
async fn until(shop: &Shop, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, PATIENCE, || async {
        let now = config(shop).await;
        match wanted(&now) {
            true => Ok(now),
            false => Err(now),
        }
    })
    .await
}

async fn status(shop: &Shop, path: &str) -> u16 {
    let mut client = Http1::connect(shop.gateway.http()).await;
    client.request("PUT", path, &[], Some(b"{}")).await.status
}

#[tokio::test]
async fn breaking_descriptors_are_refused_where_the_file_says_so() {
    let shop = Shop::start("", "breaking_changes: refuse").await;
    let before = config(&shop).await["version"].clone();
    shop.describe(&broken());
    let now = until(&shop, "the refusal", |now| !now["rejected"].is_null()).await;
    assert_eq!(now["version"], before);
    let problems = now["rejected"]["problems"].to_string();
    for one in BREAKS {
        assert!(
            problems.contains(&format!("breaks callers: {one}")),
            "{one}: {problems}"
        );
    }
    assert_eq!(
        (
            status(&shop, "/v1/items/a").await,
            status(&shop, "/v1/things/a").await
        ),
        (200, 404)
    );
    // What breaks nobody is applied.
    shop.describe(&SHOP.replace("bool gift = 2;", "bool gift = 2;\n  string note = 3;"));
    let now = until(&shop, "a new version", |now| now["version"] != before).await;
    assert!(
        now["rejected"].is_null() && now["breaking_changes"].is_null(),
        "{now}"
    );
}

#[tokio::test]
async fn breaking_descriptors_are_applied_with_a_warning_or_without_one() {
    let shop = Shop::start("", "").await;
    shop.describe(&broken());
    let now = until(&shop, "the warning", |now| {
        now["breaking_changes"]["version"] == now["version"]
    })
    .await;
    assert_eq!(now["version"], now["breaking_changes"]["version"]);
    let breaks = now["breaking_changes"]["breaks"].to_string();
    assert!(BREAKS.iter().all(|one| breaks.contains(one)), "{breaks}");
    assert_eq!(
        (
            status(&shop, "/v1/items/a").await,
            status(&shop, "/v1/things/a").await
        ),
        (405, 200)
    );
    let log = shop.gateway.program.logs();
    assert!(log.contains("breaks callers: shop.v1.Item.price"), "{log}");

    let shop = Shop::start("", "breaking_changes: allow").await;
    let before = config(&shop).await["version"].clone();
    shop.describe(&broken());
    let now = until(&shop, "a new version", |now| now["version"] != before).await;
    assert!(now["breaking_changes"].is_null(), "{now}");
}
