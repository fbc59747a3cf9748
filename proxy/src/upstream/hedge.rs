//! Asking another endpoint beside one that takes long: the first reply that settles the call wins, the others are
//! dropped, which resets their streams at once. A try that fails does not win while another one is under way.
//!
//! Refused: company for calls that are not safe to repeat, beyond the budget, at the same endpoint, and before it
//! is known how long answers take.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::select;
use tokio::time::{Instant, sleep_until};

use super::attempt::Attempt;
use super::attempts::{Bell, Tried, tried};
use super::exchange::Exchange;
use super::history::History;

/// Tries that are under way, the first one first.
struct Running<'t, R>(SmallVec<[Under<'t, R>; 2]>);

type Under<'t, R> = Pin<Box<dyn Future<Output = Tried<R>> + Send + 't>>;

/// Makes a try, and others beside it as the route's policy has it.
pub(crate) async fn race<E: Exchange>(
    history: &mut History<'_, E>,
    attempt: Attempt,
    what: &E,
) -> Tried<E::Reply> {
    let terms = history.terms;
    let Some(hedge) = terms.policy.hedge.as_ref().filter(|_| terms.repeatable) else {
        return tried(attempt, history.worker, what, None).await;
    };
    let started = attempt.started();
    let cluster = history.cluster.name();
    let delay = hedge.delay(cluster, started);
    let (over, first_won) = with_company(history, attempt, what, delay).await;
    let cut_off = delay.filter(|_| !first_won);
    if over.settles {
        // When another one won, all that is known of the first is that it took longer than the delay. Left out, it
        // would make the delay ever shorter; counted as longer, it would drag the delay along with itself.
        let latency = cut_off.map_or(over.ended.latency, |delay| {
            delay.saturating_sub(Duration::from_nanos(1))
        });
        hedge.observe(cluster, latency, over.ended.now);
    }
    over
}

/// The try that decides, and whether that is the first one; without a `delay` it is the only one.
async fn with_company<E: Exchange>(
    history: &mut History<'_, E>,
    attempt: Attempt,
    what: &E,
    delay: Option<Duration>,
) -> (Tried<E::Reply>, bool) {
    let worker = history.worker;
    let endpoint = attempt.endpoint().clone();
    history.asked(&endpoint);
    let moment = delay.and_then(|delay| attempt.started().checked_add(delay));
    let bell = moment.map(Bell::new);
    // Most tries are answered before they get company: those are not moved to the heap.
    let mut first = pin!(tried(attempt, worker, what, bell.as_ref()));
    let alone = poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Pending if !bell.as_ref().is_some_and(Bell::rang) => Poll::Pending,
        polled => Poll::Ready(polled),
    });
    if let Poll::Ready(over) = alone.await {
        return (over, true);
    }
    let mut next = moment;
    let mut running = Running(SmallVec::new());
    running.0.push(Box::pin(first));
    loop {
        let over = select! {
            biased;
            over = poll_fn(|cx| running.poll(cx)) => over,
            () = until(next) => {
                let now = Instant::now();
                next = match history.hedge(now) {
                    Some((attempt, company)) => {
                        running.0.push(Box::pin(async move {
                            let _company = company;
                            tried(attempt, worker, what, None).await
                        }));
                        delay.and_then(|delay| now.checked_add(delay))
                    }
                    None => None,
                };
                continue;
            }
        };
        if over.settles || running.0.is_empty() {
            let first_won = Arc::ptr_eq(over.attempt.endpoint(), &endpoint);
            return (over, first_won);
        }
        if history.lost(over) {
            next = Some(Instant::now());
        }
    }
}

/// For ever, without a time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

// === impl Running ===

impl<R> Running<'_, R> {
    /// The next one that is over; it is gone then.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Tried<R>> {
        for index in 0..self.0.len() {
            if let Poll::Ready(over) = self.0[index].as_mut().poll(cx) {
                drop(self.0.swap_remove(index));
                return Poll::Ready(over);
            }
        }
        Poll::Pending
    }
}
