//! From the path of a call to the service that answers it: analytics, health, reflection.
//!
//! A plain `match` on the services, that of the peers among them; anything else is UNIMPLEMENTED.

use std::convert::Infallible;
use std::future::ready;
use std::task::{Context, Poll};
use std::time::Duration;

use proto::analytics::analytics_service_server::AnalyticsServiceServer;
use proto::analytics::peers_server::PeersServer;
use service_kit::deadline::{Malformed, grpc_timeout};
use service_kit::grpc::{Beside, Handler, HealthReporter, ReflectionError, handler, unimplemented};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service as Call};

use crate::service::{ANALYTICS_SERVICE, PEERS_SERVICE, Service};

/// The largest request; they are small.
const MAX_MESSAGE: usize = 64 * 1024;
/// The resolution of the runtime's timers.
const MOMENT: Duration = Duration::from_millis(1);

/// The services of the gRPC port.
#[derive(Clone)]
pub(crate) struct Dispatch {
    analytics: Handler<Body>,
    peers: Handler<Body>,
    beside: Beside<Body>,
}

impl Dispatch {
    pub(crate) fn new(service: Service, health: &HealthReporter) -> Result<Self, ReflectionError> {
        let peers = PeersServer::new(service.clone());
        let analytics = AnalyticsServiceServer::new(service);
        Ok(Self {
            analytics: handler(analytics.max_decoding_message_size(MAX_MESSAGE)),
            peers: handler(peers.max_decoding_message_size(MAX_MESSAGE)),
            beside: Beside::new(health, &[ANALYTICS_SERVICE], proto::DESCRIPTOR_SET)?,
        })
    }

    fn find(&self, path: &str) -> Option<&Handler<Body>> {
        let (service, _) = path.strip_prefix('/')?.split_once('/')?;
        match service {
            ANALYTICS_SERVICE => Some(&self.analytics),
            PEERS_SERVICE => Some(&self.peers),
            other => self.beside.find(other),
        }
    }
}

impl Call<Request<Body>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.find(request.uri().path()) {
            Some(service) => {
                let left = grpc_timeout(request.headers());
                Box::pin(in_time(left, service(request)))
            }
            None => Box::pin(ready(Ok(unimplemented(request.uri().path())))),
        }
    }
}

/// Ends a call whose caller waits no longer, a moment before the transport would: it says CANCELLED.
async fn in_time(
    left: Result<Option<Duration>, Malformed>,
    answer: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Result<Response<Body>, Infallible> {
    let left = match left {
        Ok(None) => return answer.await,
        Ok(Some(left)) => left.saturating_sub(MOMENT),
        Err(malformed) => return Ok(Status::invalid_argument(malformed.to_string()).into_http()),
    };
    let late =
        || Status::deadline_exceeded("the caller's deadline passed before the answer was there");
    // A call whose time is up before it begins does nothing.
    if left.is_zero() {
        return Ok(late().into_http());
    }
    let answered = timeout(left, answer).await;
    answered.unwrap_or_else(|_| Ok(late().into_http()))
}
