//! Which methods and paths a rule takes: custom methods, HEAD, OPTIONS, 405 with `Allow`, slashes at the end, calls without
//! annotations.

use serde_json::json;
use testkit::Http1;

use super::setup::Shop;

async fn client(shop: &Shop) -> Http1 {
    Http1::connect(shop.gateway.http()).await
}

#[tokio::test]
async fn methods_are_those_of_the_rules_and_head_is_where_get_is() {
    let shop = Shop::start("", "").await;
    let mut client = client(&shop).await;
    let purge = client.request("PURGE", "/v1/items/a", &[], None).await;
    assert_eq!((purge.status, purge.json()), (200, json!({ "name": "a" })));
    for method in ["GET", "DELETE", "PURGE", "REPORT"] {
        let any = client.request(method, "/v1/any/a", &[], None).await;
        assert_eq!(any.status, 200, "{method}");
    }
    let get = client.get("/v1/items/a").await;
    let head = client.request("HEAD", "/v1/items/a", &[], None).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), get.header("content-type"));
    assert_eq!(
        head.header("content-length"),
        Some(get.body.len().to_string().as_str())
    );
}

#[tokio::test]
async fn other_methods_are_405_with_those_that_there_are_and_options_asks_for_them() {
    let shop = Shop::start("", "").await;
    let mut client = client(&shop).await;
    let answer = client.request("DELETE", "/v1/items/a", &[], None).await;
    let allow = answer.header("allow").unwrap();
    assert_eq!((answer.status, allow), (405, "GET, HEAD, PURGE, PUT"));
    assert_eq!(answer.json()["details"][0]["reason"], "METHOD_NOT_ALLOWED");
    let before = shop.backend.received().len();
    let options = client.request("OPTIONS", "/v1/items/a", &[], None).await;
    assert_eq!((options.status, options.body.len()), (204, 0));
    assert_eq!(
        options.header("allow"),
        Some("GET, HEAD, PURGE, PUT, OPTIONS")
    );
    assert_eq!(options.header("content-length"), None);
    assert_eq!(shop.backend.received().len(), before, "nobody was asked");
    for method in ["OPTIONS", "GET"] {
        let nowhere = client.request(method, "/v2/items/a", &[], None).await;
        assert_eq!(nowhere.status, 404, "{method}");
        assert_eq!(nowhere.json()["details"][0]["reason"], "NOT_FOUND");
    }
    // A rule for any method takes this one, too.
    assert_eq!(
        client
            .request("OPTIONS", "/v1/any/a", &[], None)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_slash_at_the_end_is_another_path_unless_the_route_says_otherwise() {
    let strict = Shop::start("", "").await;
    let answer = client(&strict).await.get("/v1/items/a/").await;
    assert_eq!(answer.status, 404, "{}", answer.text());

    let ignore = Shop::start(", trailing_slash: ignore", "").await;
    let mut to = client(&ignore).await;
    let answer = to.get("/v1/shelves/1/items/a/?price=3").await;
    let item = json!({ "name": "a", "parent": "shelves/1", "price": "3" });
    assert_eq!((answer.status, answer.json()), (200, item));
    let answer = to.request("DELETE", "/v1/items/a/", &[], None).await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET, HEAD, PURGE, PUT"))
    );
    assert_eq!(
        to.get("/v1/items/a//").await.status,
        404,
        "one slash, and not several"
    );

    let redirect = Shop::start(", trailing_slash: redirect", "").await;
    let mut to = client(&redirect).await;
    let answer = to.request("PUT", "/v1/items/a%2Fb/?x=1", &[], None).await;
    let location = answer.header("location");
    assert_eq!(
        (answer.status, location),
        (308, Some("/v1/items/a%2Fb?x=1"))
    );
    let answer = to.request("DELETE", "/v1/items/a/", &[], None).await;
    assert_eq!((answer.status, answer.header("location")), (405, None));
}

#[tokio::test]
async fn methods_without_an_annotation_are_called_by_name_where_the_route_says_so() {
    let body = json!({ "name": "a", "price": "5" });
    let shop = Shop::start("", "").await;
    let answer = client(&shop)
        .await
        .post_json("/shop.v1.Shop/Count", &body)
        .await;
    assert_eq!(answer.status, 404);

    let shop = Shop::start(", unannotated: true", "").await;
    let mut client = client(&shop).await;
    for method in ["Count", "GetItem"] {
        let answer = client
            .post_json(&format!("/shop.v1.Shop/{method}"), &body)
            .await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, body.clone()),
            "{method}"
        );
    }
    assert_eq!(shop.backend.received()[0].path, "/shop.v1.Shop/Count");
    let answer = client.get("/shop.v1.Shop/Count").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(
        client.get("/v1/items/a").await.status,
        200,
        "annotations hold all the same"
    );
}

#[tokio::test]
async fn bodies_are_a_field_and_answers_too_where_the_rule_says_so() {
    let shop = Shop::start("", "").await;
    let body = json!({ "parts": [{ "name": "b" }] });
    let answer = client(&shop)
        .await
        .post_json("/v1/items/a:sell?gift=true", &body)
        .await;
    let part = json!({ "name": "a", "parts": [{ "name": "b" }] });
    assert_eq!((answer.status, answer.json()), (200, part));
}

#[tokio::test]
async fn unknown_parameters_are_refused_or_ignored_and_bodies_are_bounded() {
    let shop = Shop::start(", max_body: 1KiB", "").await;
    let mut to = client(&shop).await;
    assert_eq!(to.get("/v1/items/a?size=3").await.status, 400);
    let long = json!({ "parent": "x".repeat(2000) }).to_string();
    let answer = to
        .request("PUT", "/v1/items/a", &[], Some(long.as_bytes()))
        .await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    let shop = Shop::start(", unknown_fields: ignore", "").await;
    let answer = client(&shop)
        .await
        .get("/v1/items/a?size=3&colour=GREEN")
        .await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({ "name": "a" }))
    );
}
