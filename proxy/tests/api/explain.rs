//! `explain`: the message that a request becomes, and why neighbours do not match.

use super::setup::{Files, SHOP, Shop, proxy};

async fn explained(words: &[&str], options: &str) -> String {
    let files = Files::new();
    let file = files.shop("mesh", SHOP, options);
    let file = file.display().to_string();
    let args: Vec<&str> = ["explain", &file]
        .into_iter()
        .chain(words.iter().copied())
        .collect();
    let ended = proxy(&args, &[]).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    ended.output
}

fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_message_and_its_metadata_are_shown_as_they_would_be_sent() {
    let body = r#"{"parts":[{"name":"b"}]}"#;
    let words = [
        "POST",
        "/v1/items/a%20b:sell?gift=true",
        "-d",
        body,
        "-H",
        "authorization: x",
    ];
    has(
        &explained(&words, "").await,
        &[
            "route      shop",
            "becomes    gRPC /shop.v1.Shop/SellPart",
            r#"message    {"part":{"name":"a b","parts":[{"name":"b"}]},"gift":true}"#,
            "metadata   authorization: x",
        ],
    );
    let wrong = explained(&["PUT", "/v1/items/a", "-d", r#"{"price":"x"}"#], "").await;
    has(&wrong, &["answer     400: body: "]);
}

#[tokio::test]
async fn neighbours_are_told_with_what_keeps_the_request_from_them() {
    let text = explained(&["GET", "/v1/shelves/7/items/a"], "").await;
    has(
        &text,
        &[
            "pattern    GET /v1/{parent=shelves/*}/items/{name}",
            "not        GET /v1/items/{name} (shop): segment 2 is `shelves`, not `items`",
        ],
    );
    let text = explained(&["GET", "/v1/items/a"], "").await;
    has(
        &text,
        &[
            "not        PUT /v1/items/{name} (shop): the method is GET",
            "not        POST /v1/items/{part.name}:sell (shop): the path does not end with `:sell`",
        ],
    );
    let text = explained(&["DELETE", "/v1/items/a"], "").await;
    has(&text, &["answer     405: ", "Allow: GET, HEAD, PURGE, PUT"]);
    let text = explained(&["OPTIONS", "/v1/items/a"], "").await;
    has(
        &text,
        &["answer     204: Allow: GET, HEAD, PURGE, PUT, OPTIONS"],
    );
    let text = explained(&["GET", "/v1/shelves/7/items/"], "").await;
    has(
        &text,
        &["answer     404", "(shop): segment 5 is ``, not `*`"],
    );
    let text = explained(&["GET", "/v1/items/a/"], ", trailing_slash: redirect").await;
    has(
        &text,
        &["becomes    an answer that sends the client elsewhere"],
    );
}

#[tokio::test]
async fn a_running_gateway_explains_with_its_endpoints() {
    let shop = Shop::start("", "").await;
    let admin = format!("http://{}", shop.gateway.admin());
    let ended = proxy(
        &["explain", "--admin", &admin, "GET", "/v1/items/a?stars=3"],
        &[],
    )
    .await;
    has(
        &ended.output,
        &[
            r#"message    {"name":"a","stars":3}"#,
            &format!("{}", shop.backend.address),
        ],
    );
}
