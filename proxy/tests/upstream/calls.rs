//! One call: what goes out, and what every kind of answer becomes.

use std::time::Duration;

use highpress_proxy::upstream::CallError;
use testkit::backend::{Answer, Backend, framed};

use super::support::{LONG, call, call_with, cluster};

#[tokio::test]
async fn a_call_gets_its_message() {
    let backend =
        Backend::start(|seen| Answer::message(&[&seen.body[5..], b" answered"].concat())).await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    let reply = call(&cluster, LONG).await.unwrap();
    assert_eq!((reply.code, &reply.body[..]), (0, &b"ask answered"[..]));
}
