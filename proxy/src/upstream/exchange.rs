//! What a call asks of an endpoint, gRPC or HTTP: the loop of tries runs both alike.

use tokio::time::Instant;

use super::attempt::Attempt;
use super::call::TryError;
use super::counters::Outcome;

/// One request and the reply to it, as often as it has to be tried.
pub(crate) trait Exchange: Sync {
    /// What an endpoint answers. A failure that it tells of itself is a reply too.
    type Reply: Send;

    /// When the caller has no use for a reply any more.
    fn deadline(&self) -> Instant;

    /// Tries the attempt's endpoint once. Dropping the future gives the try up at once.
    fn once(
        &self,
        attempt: &mut Attempt,
        worker: usize,
    ) -> impl Future<Output = Result<Self::Reply, TryError>> + Send;

    /// What a reply says of the endpoint.
    fn outcome(reply: &Self::Reply) -> Outcome;
}
