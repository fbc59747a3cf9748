//! A service that the gateway has never seen, from a descriptor file: nested messages, maps, enums, wrappers,
//! timestamps. The backend decodes by the descriptor and answers with what it got.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use prost::Message;
use proto::rpc::{BadRequest, Status, bad_request::FieldViolation};
use serde_json::{Value, json};
use testkit::Http1;
use testkit::descriptors::{self, Described};
use testkit::echo::Echo;
use testkit::stream_backend::{StreamBackend, StreamCall};

/// The descriptor set of `library.proto`, its imports included.
pub(super) fn descriptors() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway");
    descriptors::compiled(&folder, "library.proto")
}

struct Library {
    backend: Echo,
    described: Described,
}

async fn library(options: &str) -> Library {
    let descriptors = descriptors();
    let backend = Echo::start(&descriptors).await;
    let services = format!("[library.v1.Library]{options}");
    let address = backend.address;
    let described = descriptors::transcoding(&descriptors, (&services, ""), address).await;
    Library { backend, described }
}

fn book() -> Value {
    json!({
        "title": "Ein \"Buch\" – 書\u{1F4D6}",
        "authors": [{ "fullName": "A", "languages": ["de", "ja"] }, { "fullName": "B" }],
        "copies": { "main": "9007199254740993", "": "-1" },
        "editors": { "-7": { "fullName": "C" } },
        "genre": "POEMS",
        "subtitle": "",
        "published": "1999-12-31T23:59:59.500Z",
        "readingTime": "5400.250s",
        "cover": "AP+A",
        "rating": 4.5,
        "edition": 0,
        "invoice": "18446744073709551615",
    })
}

#[tokio::test]
async fn a_service_it_has_never_seen_is_transcoded_both_ways() {
    let library = library("").await;
    let mut client = Http1::connect(library.described.gateway.http()).await;
    let answer = client
        .post_json("/v1/shelves/7/books?requestId=r1&dry_run=true", &book())
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.json(),
        json!({ "parent": "shelves/7", "book": book(), "requestId": "r1", "dryRun": true })
    );
    assert_eq!(
        library.backend.received()[0].path,
        "/library.v1.Library/CreateBook"
    );
}

#[tokio::test]
async fn path_and_query_reach_nested_and_repeated_fields() {
    let library = library("").await;
    let mut client = Http1::connect(library.described.gateway.http()).await;
    let query = "genres=NOVEL&genres=2&asOf=2024-02-29T00:00:00Z&view.full=true&view.pages=12";
    let answer = client
        .get(&format!("/v1/shelves/a%2Fb/books/c%20d?{query}"))
        .await;
    assert_eq!(
        answer.json(),
        json!({
            "name": "shelves/a%2Fb/books/c d", "genres": ["NOVEL", "POEMS"], "asOf": "2024-02-29T00:00:00Z",
            "view": { "full": true, "pages": 12 },
        })
    );
    let answer = client.get("/v1/books/978-3%2F16:byIsbn").await;
    assert_eq!(answer.json(), json!({ "name": "978-3/16" }));
}

#[tokio::test]
async fn input_that_does_not_fit_is_a_status_that_says_where() {
    let library = library("").await;
    let mut client = Http1::connect(library.described.gateway.http()).await;
    let posts = [
        (json!({ "genre": "COOKING" }), "genre"),
        (
            json!({ "authors": [{}, { "fullName": 1 }] }),
            "authors[1].fullName",
        ),
        (json!({ "donor": "d", "invoice": 1 }), "invoice"),
        (json!({ "published": "yesterday" }), "published"),
        (json!({ "colour": "red" }), "colour"),
    ];
    for (body, place) in posts {
        let answer = client.post_json("/v1/shelves/7/books", &body).await;
        let status = answer.json();
        assert_eq!(
            (answer.status, &status["code"]),
            (400, &json!(3)),
            "{body}: {status}"
        );
        assert!(
            status["message"].as_str().unwrap().contains(place),
            "{body}: {status}"
        );
        assert_eq!(status["details"][0]["domain"], "highpress");
        assert!(answer.header("x-request-id").is_some());
    }
    for target in [
        "/v1/shelves/1/books/2?asOf=now",
        "/v1/shelves/1/books/2?shelf=1",
        "/v1/shelves/%zz/books/2",
    ] {
        assert_eq!(client.get(target).await.status, 400, "{target}");
    }
    assert!(library.backend.received().is_empty());
}

#[tokio::test]
async fn options_of_the_route_change_the_form() {
    let library = library(
        ", names: original, int64: number, enums: number, defaults: emit, unknown_fields: ignore",
    )
    .await;
    let mut client = Http1::connect(library.described.gateway.http()).await;
    let body = json!({ "title": "t", "genre": "NOVEL", "copies": { "a": 1 }, "colour": "red" });
    let answer = client.post_json("/v1/shelves/7/books", &body).await;
    let book = answer.json()["book"].clone();
    assert_eq!(
        book,
        json!({ "title": "t", "authors": [], "copies": { "a": 1 }, "editors": {}, "genre": 1, "cover": "", "rating": 0 }),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn details_of_errors_are_told_though_no_file_has_their_types() {
    let violation = FieldViolation {
        field: "title".to_owned(),
        description: "too long".to_owned(),
        ..FieldViolation::default()
    };
    let detail = BadRequest {
        field_violations: vec![violation],
    };
    let mut status = Status {
        code: 3,
        ..Status::default()
    };
    status.details.resize_with(1, Default::default);
    status.details[0].type_url = "type.googleapis.com/google.rpc.BadRequest".to_owned();
    status.details[0].value = detail.encode_to_vec();
    let status = STANDARD_NO_PAD.encode(status.encode_to_vec());
    let backend = StreamBackend::start(move |call: StreamCall| {
        let status = status.clone();
        async move { call.finish_with(3, "no", &[("grpc-status-details-bin", &status)]) }
    })
    .await;
    let services = ("[library.v1.Library]", "");
    let described = descriptors::transcoding(&descriptors(), services, backend.address()).await;
    let mut client = Http1::connect(described.gateway.http()).await;
    let answer = client.get("/v1/shelves/1/books/2").await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(
        answer.json()["details"],
        json!([{
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{ "field": "title", "description": "too long" }],
        }])
    );
}
