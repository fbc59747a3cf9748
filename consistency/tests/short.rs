//! The short form: half a minute of harm, another half of starting and comparing.

use consistency::{Plan, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_counted_once_through_crashes_of_anything() {
    let verdict = run(&Plan::default()).await;
    eprintln!("{}", verdict.table);
    assert!(verdict.wrong.is_empty(), "{:#?}", verdict.wrong);
}
