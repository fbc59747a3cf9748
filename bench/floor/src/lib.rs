//! What bench/ compares the gateway with, beside its real peers, and the backend of what the counter service has no call for.
//!
//! `floor` is what the network alone costs; `plain-proxy` is pingora that passes HTTP through untouched; `fixed-backend`
//! answers both, and the gateways, with messages that are always the same.

pub mod fixed;

/// Runs HTTP/2 streams on this thread, where everything is.
#[derive(Debug, Clone)]
pub struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
