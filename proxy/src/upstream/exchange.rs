//! What a call asks of an endpoint, gRPC or HTTP: the loop of tries runs both alike.

use resilience::retry::Pushback;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::call::TryError;
use super::counters::Outcome;
use super::error::NoRetry;
use super::policy::Terms;
use super::retries::Reason;

/// One request and the reply to it, as often as it has to be tried.
pub(crate) trait Exchange: Sync {
    /// What an endpoint answers. A failure that it tells of itself is a reply too.
    type Reply: Send;

    /// How long there is time for all tries together, and when there is more than one.
    fn terms(&self) -> &Terms<'_>;

    /// Tries the attempt's endpoint once, with time until `until`; says in the attempt's departure
    /// when it leaves. Dropping the future gives the try up at once.
    fn once(
        &self,
        attempt: &mut Attempt,
        worker: usize,
        until: Instant,
    ) -> impl Future<Output = Result<Self::Reply, TryError>> + Send;

    /// What a reply says of the endpoint.
    fn outcome(reply: &Self::Reply) -> Outcome;

    /// What another try would be made for after this reply: its gRPC code or HTTP status.
    fn reason(reply: &Self::Reply) -> Reason;

    /// When the backend wants to be tried again, if it says so.
    fn pushback(reply: &Self::Reply) -> Option<Pushback>;

    /// A reply that says of itself why it was the last one, if it can say anything.
    fn not_tried_again(reply: Self::Reply, why: &NoRetry) -> Self::Reply;
}
