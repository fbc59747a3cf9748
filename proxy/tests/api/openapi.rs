//! The OpenAPI document: by the command and on the admin port, and what a public validator says of it.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::mesh::{self, Gateway};
use testkit::{Http1, Program};

use super::setup::{Files, SHOP, Shop, descriptors, proxy};

async fn printed(file: &Path) -> Value {
    let ended = proxy(&["openapi"], &[file]).await;
    assert!(ended.status.success(), "{}", ended.output);
    let document = serde_json::from_str(&ended.output).expect("JSON");
    validate(&document);
    document
}

async fn of_mesh(profile: &str) -> Value {
    let address = "127.0.0.1:1".parse().unwrap();
    let text = mesh::phase1(address, address);
    let text = text.replace("profile: phase1", &format!("profile: {profile}"));
    printed(&Files::new().write("mesh.yaml", text)).await
}

/// What openapi-spec-validator says, which `make setup` installs; other checks hold without it, too.
fn validate(document: &Value) {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/venv/bin");
    let validator = bin.join("openapi-spec-validator");
    if !validator.exists() {
        eprintln!(
            "not validated: `make setup` installs {}",
            validator.display()
        );
        return;
    }
    let file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    std::fs::write(file.path(), document.to_string()).unwrap();
    let said = Command::new(validator).arg(file.path()).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{text}");
}

/// What stands at a JSON pointer, references followed.
fn at<'d>(document: &'d Value, pointer: &str) -> &'d Value {
    let found = document.pointer(pointer);
    let found = found.unwrap_or_else(|| panic!("no {pointer} in {document:#}"));
    match found["$ref"].as_str() {
        Some(reference) => at(document, reference.trim_start_matches('#')),
        None => found,
    }
}

/// `a/b` as a part of a pointer.
fn part(path: &str) -> String {
    path.replace('~', "~0").replace('/', "~1")
}

fn operation<'d>(document: &'d Value, method: &str, path: &str) -> &'d Value {
    at(document, &format!("/paths/{}/{method}", part(path)))
}

fn parameter<'o>(operation: &'o Value, name: &str) -> &'o Value {
    let parameters = operation["parameters"].as_array().unwrap();
    let found = parameters.iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {parameters:#?}"))
}

const PHASE1_JSON: &str = "application/json; charset=utf-8";

#[tokio::test]
async fn phase1_is_described_as_it_is_served() {
    let document = of_mesh("phase1").await;
    assert_eq!(document["openapi"], "3.1.0");
    let get = operation(
        &document,
        "get",
        "/api/v1/counter/{resource_id}/{counter_type}",
    );
    let id = parameter(get, "resource_id");
    assert_eq!((&id["in"], &id["required"]), (&json!("path"), &json!(true)));
    assert_eq!(
        (&id["schema"]["minLength"], &id["schema"]["maxLength"]),
        (&json!(1), &json!(256))
    );
    let answer = &get["responses"]["200"]["content"][PHASE1_JSON]["schema"]["properties"];
    assert_eq!(answer["status"], json!({ "const": "success" }));
    let value = &answer["data"]["properties"]["current_value"]["type"];
    assert_eq!(value, "integer", "{answer}");

    let hot = operation(&document, "get", "/api/v1/counter/hot/{counter_type}");
    let limit = parameter(hot, "limit");
    let bounds = (&limit["schema"]["minimum"], &limit["schema"]["maximum"]);
    assert_eq!(bounds, (&json!(1), &json!(1000)));
    assert!(
        limit["description"].is_string(),
        "comments are descriptions: {limit}"
    );
    let period = &parameter(hot, "period")["schema"]["enum"];
    assert_eq!(period, &json!(["hour", "day", "week", "month", "all"]));

    let post = operation(&document, "post", "/api/v1/counter/increment");
    assert_eq!(post["requestBody"]["required"], true);
    let statuses: Vec<&String> = post["responses"].as_object().unwrap().keys().collect();
    assert_eq!(
        statuses,
        ["200", "400", "413", "422", "500", "503", "default"]
    );
    let failure = |status: &str| {
        let pointer = format!(
            "/paths/{}/post/responses/{status}",
            part("/api/v1/counter/increment")
        );
        at(&document, &pointer)["content"][PHASE1_JSON]["schema"].clone()
    };
    let wrong =
        json!({ "details": { "type": "string" }, "error": { "const": "Invalid request format" } });
    assert_eq!(failure("400")["properties"], wrong);
    assert_eq!(
        failure("503")["properties"]["error"]["const"],
        "Counter service unavailable"
    );
    assert_eq!(
        failure("500")["properties"]["error"]["const"],
        "Failed to increment counter"
    );
}

#[tokio::test]
async fn the_standard_profile_writes_long_integers_as_text_and_streams_in_three_forms() {
    let document = of_mesh("standard").await;
    let response = at(
        &document,
        "/components/schemas/counter.GetCounterResponse/properties",
    );
    assert_eq!(response["currentValue"]["type"], "string", "{response}");
    let live = operation(&document, "get", "/api/v1/analytics/live/{counter_type}");
    let content = live["responses"]["200"]["content"].as_object().unwrap();
    let mut kinds: Vec<&str> = content.keys().map(String::as_str).collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            "application/json",
            "application/x-ndjson",
            "text/event-stream"
        ]
    );
    assert_eq!(content["application/json"]["schema"]["type"], "array");
    let event = &content["text/event-stream"]["schema"]["properties"]["data"];
    assert_eq!(event["contentMediaType"], "application/json");
    let get = "/api/v1/counter/{resource_id}/{counter_type}";
    let pointer = format!("/paths/{}/get/responses/404", part(get));
    let status = &at(&document, &pointer)["content"]["application/json"]["schema"]["properties"];
    assert_eq!(status["code"]["type"], "integer", "{status}");
    assert_eq!(status["details"]["type"], "array");
}

#[tokio::test]
async fn methods_and_fields_are_told_with_their_comments_and_rules() {
    let files = Files::new();
    let document = printed(&files.shop("camel", SHOP, "")).await;
    let get = operation(&document, "get", "/v1/items/{name}");
    assert_eq!(get["summary"], "Reads an item");
    assert_eq!(get["x-grpc-method"], "shop.v1.Shop/GetItem");
    assert_eq!(parameter(get, "name")["description"], "What it is called.");
    let stars = &parameter(get, "stars")["schema"];
    assert_eq!(
        (&stars["minimum"], &stars["maximum"]),
        (&json!(1), &json!(9)),
        "{stars}"
    );
    let colours = &parameter(get, "colour")["schema"]["anyOf"][0];
    assert_eq!(
        colours["enum"],
        json!(["COLOUR_UNSPECIFIED", "RED", "BLUE"])
    );
    assert!(
        colours["description"]
            .as_str()
            .unwrap()
            .contains("`RED`: As a tomato.")
    );
    assert_eq!(parameter(get, "weight")["schema"]["format"], "int32");
    assert_eq!(parameter(get, "made")["schema"]["format"], "date-time");
}

#[tokio::test]
async fn every_binding_is_told_as_it_is_taken() {
    let files = Files::new();
    let document = printed(&files.shop("camel", SHOP, "")).await;
    // Additional bindings, custom methods, variables of several segments, verbs.
    let shelf = operation(&document, "get", "/v1/shelves/{shelves}/items/{name}");
    assert_eq!(
        parameter(shelf, "shelves")["description"],
        "A part of `parent`."
    );
    assert!(operation(&document, "x-purge", "/v1/items/{name}").is_object());
    for method in ["get", "put", "post", "delete", "patch"] {
        assert!(operation(&document, method, "/v1/any/{name}").is_object());
    }
    let sell = operation(&document, "post", "/v1/items/{part_name}:sell");
    let part = &sell["requestBody"]["content"]["application/json"]["schema"]["anyOf"][0]["$ref"];
    assert_eq!(part, "#/components/schemas/shop.v1.Part.request");
    let answer = &sell["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(answer, "#/components/schemas/shop.v1.Part");
    assert_eq!(parameter(sell, "gift")["schema"]["type"], "boolean");
}

#[tokio::test]
async fn requests_are_told_as_strictly_as_they_are_read() {
    let files = Files::new();
    let document = printed(&files.shop("camel", SHOP, "")).await;
    let put = operation(&document, "put", "/v1/items/{name}");
    let body = &put["requestBody"]["content"]["application/json"]["schema"];
    let fields = &body["properties"];
    assert!(
        fields.get("name").is_none() && body["additionalProperties"] == false,
        "{body}"
    );
    assert_eq!(
        body["not"]["anyOf"],
        json!([{ "required": ["maker", "lot"] }])
    );
    assert_eq!(
        fields["price"]["type"],
        json!(["integer", "string", "null"])
    );
    assert_eq!(
        fields["notes"]["propertyNames"]["pattern"],
        "^(0|-?[1-9][0-9]{0,8})$"
    );
    let part = at(&document, "/components/schemas/shop.v1.Part.request");
    assert_eq!(
        (&part["required"], &part["description"]),
        (&json!(["name"]), &json!("A part of an item."))
    );
}

#[tokio::test]
async fn what_is_always_null_is_told_so() {
    let files = Files::new();
    let timestamp = "import \"google/protobuf/timestamp.proto\";";
    let ratio = "double ratio = 13;";
    let nothing =
        "google.protobuf.NullValue nothing = 14; repeated google.protobuf.NullValue gaps = 15;";
    let proto = SHOP
        .replace(
            timestamp,
            &format!("{timestamp}\nimport \"google/protobuf/struct.proto\";"),
        )
        .replace(ratio, &format!("{ratio} {nothing}"));
    let document = printed(&files.shop("null", &proto, "")).await;
    let item = at(&document, "/components/schemas/shop.v1.Item");
    assert_eq!(item["properties"]["nothing"]["type"], "null");
    let put = operation(&document, "put", "/v1/items/{name}");
    let body = &put["requestBody"]["content"]["application/json"]["schema"];
    let gaps = &body["properties"]["gaps"]["items"]["anyOf"];
    assert_eq!(gaps[0]["type"], "null", "{body}");
    assert_eq!(gaps[1]["enum"], json!(["NULL_VALUE"]));
}

#[tokio::test]
async fn options_of_the_route_change_what_is_told() {
    let files = Files::new();
    let options = ", int64: number, enums: number, names: original, defaults: emit, unknown_fields: ignore, unannotated: true";
    let proto = SHOP.replace("Timestamp made", "Timestamp made_at");
    let document = printed(&files.shop("original", &proto, options)).await;
    let item = at(&document, "/components/schemas/shop.v1.Item");
    let fields = &item["properties"];
    assert_eq!(fields["price"]["type"], "integer");
    assert_eq!(fields["colour"]["type"], "integer");
    assert!(fields["made_at"].is_object());
    let required = item["required"].as_array().unwrap();
    assert!(
        required.contains(&json!("price")) && !required.contains(&json!("made_at")),
        "{item}"
    );
    let request = at(&document, "/components/schemas/shop.v1.Item.request");
    assert!(request.get("additionalProperties").is_none(), "{request}");
    assert!(operation(&document, "post", "/shop.v1.Shop/Count").is_object());
}

const FILES: &str = r#"syntax = "proto3";
package shop.v1;
import "google/api/annotations.proto";
import "google/api/httpbody.proto";
service Shop {
  rpc Load(stream google.api.HttpBody) returns (stream google.api.HttpBody) {
    option (google.api.http) = { post: "/v1/load" body: "*" };
  }
  rpc Talk(stream Word) returns (stream Word) {
    option (google.api.http) = { post: "/v1/talk" body: "*" };
  }
  rpc Rest(Word) returns (Word) { option (google.api.http) = { get: "/v1/rest/{text=**}" }; }
}
message Word { string text = 1; }
"#;
const HTTP_BODY: &str = r#"syntax = "proto3";
package google.api;
message HttpBody { string content_type = 1; bytes data = 2; }
"#;

#[tokio::test]
async fn bodies_as_they_are_and_streams_are_told() {
    let files = Files::new();
    let set = descriptors_with(FILES, ("google/api/httpbody.proto", HTTP_BODY));
    let set = files.write("files.binpb", set);
    let sources = format!("{{ file: {} }}", set.display());
    let text = super::setup::mesh(&sources, "127.0.0.1:1", "", "");
    let document = printed(&files.write("files.yaml", text)).await;
    let load = operation(&document, "post", "/v1/load");
    assert_eq!(load["requestBody"]["content"], json!({ "*/*": {} }));
    assert_eq!(load["responses"]["200"]["content"], json!({ "*/*": {} }));
    let talk = operation(&document, "post", "/v1/talk");
    let body = talk["requestBody"]["content"].as_object().unwrap();
    assert_eq!(body.len(), 2, "{body:?}");
    assert!(body.contains_key("application/x-ndjson"));
    assert_eq!(body["application/json"]["schema"]["type"], "array");
    let rest = operation(&document, "get", "/v1/rest/{text}");
    let words = parameter(rest, "text")["description"].as_str().unwrap();
    assert!(words.contains("several segments"), "{words}");
}

fn descriptors_with(proto: &str, (name, text): (&str, &str)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let extra = folder.path().join(name);
    std::fs::create_dir_all(extra.parent().unwrap()).unwrap();
    std::fs::write(extra, text).unwrap();
    super::setup::descriptors_in(folder.path(), proto)
}

#[tokio::test]
async fn the_admin_port_has_the_document_and_tries_requests_out() {
    let shop = Shop::start("", "").await;
    let mut admin = Http1::connect(shop.gateway.admin()).await;
    let document = admin.get("/openapi.json").await.json();
    let server = format!("http://{}", shop.gateway.http());
    assert_eq!(document["servers"][0]["url"], server.as_str());
    let page = admin.get("/openapi").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(page.text().contains("Try it"));
    let asked = json!({
        "method": "PUT", "path": "/v1/items/a", "headers": { "content-type": "application/json" },
        "body": r#"{"price":"3"}"#,
    });
    let told = admin.post_json("/openapi", &asked).await.json();
    assert_eq!(
        (&told["status"], &told["body"]),
        (&json!(200), &json!(r#"{"name":"a","price":"3"}"#))
    );
    let told = admin
        .post_json("/openapi", &json!({ "method": "GET", "path": "elsewhere" }))
        .await;
    assert_eq!(told.status, 400, "{}", told.text());
    // The page asks as a browser does.
    let host = shop.gateway.admin().to_string();
    let origin = format!("http://{host}");
    for (origin, status) in [(origin.as_str(), 200), ("http://elsewhere.example", 403)] {
        let headers = [("content-type", "application/json"), ("origin", origin)];
        let body = asked.to_string();
        let answer = admin
            .request("POST", "/openapi", &headers, Some(body.as_bytes()))
            .await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

#[tokio::test]
async fn the_document_follows_descriptors_and_is_not_there_where_nobody_wants_it() {
    let shop = Shop::start("", "").await;
    shop.describe(&SHOP.replace("/v1/items", "/v9/items"));
    testkit::eventually(
        "the new paths",
        std::time::Duration::from_secs(20),
        || async {
            let mut admin = Http1::connect(shop.gateway.admin()).await;
            let document = admin.get("/openapi.json").await.json();
            match document["paths"].get("/v9/items/{name}") {
                Some(_) => Ok(()),
                None => Err(document["paths"].to_string()),
            }
        },
    )
    .await;
    let files = Files::new();
    let set = files.write("shop.binpb", descriptors(SHOP));
    let sources = format!("{{ file: {} }}", set.display());
    let text = super::setup::mesh(&sources, "127.0.0.1:1", "", "");
    let text = text.replace(
        "admin: { address: 127.0.0.1:0 }",
        "admin: { address: 127.0.0.1:0, openapi: false }",
    );
    let gateway = Gateway::start(&text).await;
    let mut admin = Http1::connect(gateway.admin()).await;
    assert_eq!(admin.get("/openapi.json").await.status, 404);
    assert_eq!(admin.get("/openapi").await.status, 404);
}

#[tokio::test]
async fn a_file_that_is_wrong_has_no_document() {
    let file = Files::new();
    let ended = Program::new("highpress-proxy")
        .arg("openapi")
        .arg(file.write("m.yaml", "clusters: []"))
        .run()
        .await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
}
