//! HTTP rules from a `google.api.Service` file, in the place of annotations.

use std::time::Duration;

use serde_json::json;
use testkit::echo::Echo;
use testkit::mesh::Gateway;
use testkit::{Http1, eventually};

use super::setup::{Files, SHOP, descriptors, mesh, proxy};

const RULES: &str = r"type: google.api.Service
config_version: 3
name: shop.example.com
apis: [{ name: shop.v1.Shop }]
http:
  rules:
    - selector: shop.v1.Shop.Count
      get: /v2/count/{name}
      additional_bindings:
        - { post: '/v2/count', body: '*' }
    - selector: shop.v1.Shop.GetItem
      get: /v2/things/{name}
      response_body: parts
";

#[tokio::test]
async fn rules_of_a_service_configuration_take_the_place_of_annotations_and_are_watched() {
    let files = Files::new();
    let set = files.write("shop.binpb", descriptors(SHOP));
    let rules = files.write("shop_api.yaml", RULES);
    let backend = Echo::start(&descriptors(SHOP)).await;
    let (set, shown) = (set.display(), rules.display());
    let sources = format!("{{ file: {set} }}, {{ service_config: {shown} }}");
    let text = mesh(&sources, &backend.address.to_string(), "", "");
    let gateway = Gateway::start(&text).await;
    let mut client = Http1::connect(gateway.http()).await;
    let answer = client.get("/v2/count/a?price=3").await;
    assert_eq!(answer.json(), json!({ "name": "a", "price": "3" }));
    let answer = client.post_json("/v2/count", &json!({ "name": "b" })).await;
    assert_eq!(answer.json(), json!({ "name": "b" }));
    let answer = client.get("/v2/things/a").await;
    assert_eq!((answer.status, answer.json()), (200, json!([])));
    assert_eq!(
        client.get("/v1/shelves/1/items/a").await.status,
        404,
        "its rule stands for all"
    );
    let put = client.request("PUT", "/v1/items/a", &[], Some(b"{}")).await;
    assert_eq!(put.status, 200, "annotations of other methods hold");

    files.write("shop_api.yaml", RULES.replace("/v2/count", "/v3/count"));
    eventually("the new rules", Duration::from_secs(20), || async {
        let mut client = Http1::connect(gateway.http()).await;
        match client.get("/v3/count/a").await.status {
            200 => Ok(()),
            status => Err(status),
        }
    })
    .await;
    let mut admin = Http1::connect(gateway.admin()).await;
    let shown = admin.get("/descriptors").await.text();
    assert!(shown.contains("shop_api.yaml"), "{shown}");
}

#[tokio::test]
async fn rules_that_mean_nothing_are_refused_with_their_lines() {
    let files = Files::new();
    let set = files.write("shop.binpb", descriptors(SHOP));
    let broken = RULES
        .replace("shop.v1.Shop.Count", "shop.v1.Shop.Counts")
        .replace("response_body: parts", "answer: parts");
    let rules = files.write("shop_api.yaml", broken);
    let (set, shown) = (set.display(), rules.display());
    let sources = format!("{{ file: {set} }}, {{ service_config: {shown} }}");
    let file = files.write("mesh.yaml", mesh(&sources, "127.0.0.1:1", "", ""));
    let ended = proxy(&["check"], &[&file]).await;
    assert_eq!(ended.status.code(), Some(2));
    for line in [
        "shop_api.yaml:7: http.rules[0].selector: ",
        "shop_api.yaml:13: http.rules[1].answer: unknown key",
    ] {
        assert!(ended.output.contains(line), "{line}: {}", ended.output);
    }
    let ended = proxy(
        &["check"],
        &[&files.write(
            "b.yaml",
            mesh("{ service_config: none.yaml }", "127.0.0.1:1", "", ""),
        )],
    )
    .await;
    assert!(
        ended
            .output
            .contains("descriptors[0].service_config: cannot read"),
        "{}",
        ended.output
    );
}
