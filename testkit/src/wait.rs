//! Bounded waiting: never a bare sleep, never without saying what for.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything local may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Calls `probe` every few milliseconds until it gives `Ok`, at most for `patience`; panics with `what` and the last reason.
///
/// # Panics
/// When the time is up.
pub async fn eventually<T, E, F, P>(what: &str, patience: Duration, mut probe: P) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
    P: FnMut() -> F,
{
    let started = Instant::now();
    loop {
        let why = match tokio::time::timeout(patience, probe()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(why)) => why.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        assert!(
            started.elapsed() < patience,
            "waited {patience:?} for {what}; last: {why}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Awaits `future`, at most for `patience`; panics with `what`.
///
/// # Panics
/// When the time is up.
pub async fn within<F: Future>(what: &str, patience: Duration, future: F) -> F::Output {
    match tokio::time::timeout(patience, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {patience:?} for {what}"),
    }
}
