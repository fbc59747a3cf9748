//! Harm that is done on purpose, to see what comes of it: some requests wait before anything is done with them, some
//! get an error that no backend gave. Who waits may still be answered with the error afterwards.
//!
//! A wait counts against the request's time and never outlasts it. Both are counted by route.

use std::sync::Arc;
use std::time::Duration;

use mesh_config::model::{self, Share};
use tokio::time::{Instant, sleep_until};

use crate::error::GatewayError;
use crate::metrics::FaultCounts;
use crate::upstream::CallError;

/// What a route does to its requests.
#[derive(Debug)]
pub(crate) struct Fault {
    delay: Option<(Duration, Share)>,
    abort: Option<(u16, Share)>,
    header: Option<Box<str>>,
    counts: Arc<FaultCounts>,
}

// === impl Fault ===

impl Fault {
    /// What a route says; it is counted in `counts`.
    pub(crate) fn new(fault: &model::Fault, counts: Arc<FaultCounts>) -> Self {
        Self {
            delay: fault.delay.map(|delay| (delay.duration.get(), delay.share)),
            abort: fault.abort.map(|abort| (abort.status, abort.share)),
            header: fault.header.as_deref().map(Into::into),
            counts,
        }
    }

    /// Harms a request, if it is one of those. `carries`: whether it has such a header line.
    ///
    /// # Errors
    /// The one that was asked for, or that the wait took all the time.
    pub(crate) async fn inject(
        &self,
        carries: impl Fn(&str) -> bool,
        deadline: Instant,
    ) -> Result<(), GatewayError> {
        if self.header.as_deref().is_some_and(|name| !carries(name)) {
            return Ok(());
        }
        if let Some((duration, share)) = self.delay
            && falls_to(share)
        {
            self.counts.delayed();
            let until = Instant::now() + duration;
            sleep_until(until.min(deadline)).await;
            if until >= deadline {
                return Err(CallError::DeadlineExceeded.into());
            }
        }
        match self.abort {
            Some((status, share)) if falls_to(share) => {
                self.counts.aborted();
                Err(GatewayError::FaultInjected(status))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a request is one of the share.
fn falls_to(share: Share) -> bool {
    share >= Share::ALL || fastrand::f64() < share.ratio()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn fault(delay: Option<(u64, Share)>, abort: Option<(u16, Share)>) -> Fault {
        Fault {
            delay: delay.map(|(millis, share)| (Duration::from_millis(millis), share)),
            abort,
            header: None,
            counts: Arc::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_and_is_answered_with_the_error_then() {
        let fault = fault(Some((30, Share::ALL)), Some((418, Share::ALL)));
        let began = Instant::now();
        let error = fault.inject(|_| true, began + 1000 * MS).await.unwrap_err();
        assert!(
            matches!(error, GatewayError::FaultInjected(418)),
            "{error:?}"
        );
        assert_eq!(began.elapsed(), 30 * MS);
        assert_eq!(fault.counts.get(), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_outlasts_the_deadline() {
        let fault = fault(Some((500, Share::ALL)), None);
        let began = Instant::now();
        let error = fault.inject(|_| true, began + 100 * MS).await.unwrap_err();
        let late = GatewayError::Call(CallError::DeadlineExceeded);
        assert_eq!(error.reason(), late.reason());
        assert_eq!(began.elapsed(), 100 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn only_requests_with_the_header_are_harmed_if_one_is_named() {
        let mut fault = fault(None, Some((503, Share::ALL)));
        fault.header = Some("x-chaos".into());
        let deadline = Instant::now() + MS;
        assert!(fault.inject(|_| false, deadline).await.is_ok());
        assert!(
            fault
                .inject(|name| name == "x-chaos", deadline)
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn about_so_many_are_harmed_as_the_share_says() {
        let fault = fault(None, Some((503, Share::from_percent::<25>())));
        let deadline = Instant::now() + MS;
        for _ in 0..4000 {
            let _ = fault.inject(|_| true, deadline).await;
        }
        let (_, aborted) = fault.counts.get();
        // Ten standard deviations around a thousand.
        assert!((726..1274).contains(&aborted), "{aborted}");
    }
}
