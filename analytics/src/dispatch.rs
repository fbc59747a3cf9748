//! From the path of a call to the service that answers it: analytics, health, reflection.
//!
//! A plain `match` on four services; anything else is UNIMPLEMENTED.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use proto::analytics::analytics_service_server::AnalyticsServiceServer;
use service_kit::deadline::{Malformed, grpc_timeout};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service as Call};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tonic_reflection::server::Builder as Reflection;

use crate::service::{ANALYTICS_SERVICE, Service};

const HEALTH_SERVICE: &str = "grpc.health.v1.Health";
/// The largest request; they are small.
const MAX_MESSAGE: usize = 64 * 1024;
/// The resolution of the runtime's timers.
const MOMENT: Duration = Duration::from_millis(1);

type Handler = Arc<dyn Fn(Request<Body>) -> BoxFuture<Response<Body>, Infallible> + Send + Sync>;

/// The services of the gRPC port.
#[derive(Clone)]
pub(crate) struct Dispatch {
    analytics: Handler,
    health: Handler,
    reflection_v1: Handler,
    reflection_v1alpha: Handler,
}

impl Dispatch {
    pub(crate) fn new(
        service: Service,
        health: HealthService,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let reflection = || {
            Reflection::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name(ANALYTICS_SERVICE)
                .with_service_name(HEALTH_SERVICE)
        };
        Ok(Self {
            analytics: handler(
                AnalyticsServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE),
            ),
            health: handler(HealthServer::new(health)),
            reflection_v1: handler(reflection().build_v1()?),
            reflection_v1alpha: handler(reflection().build_v1alpha()?),
        })
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
        let path = request.uri().path();
        match path
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
            .map(|(service, _)| service)
        {
            Some(ANALYTICS_SERVICE) => (self.analytics)(request),
            Some(HEALTH_SERVICE) => (self.health)(request),
            Some("grpc.reflection.v1.ServerReflection") => (self.reflection_v1)(request),
            Some("grpc.reflection.v1alpha.ServerReflection") => (self.reflection_v1alpha)(request),
            _ => {
                let refused = Status::unimplemented(format!("there is no method {path} here"));
                Box::pin(ready(Ok(refused.into_http())))
            }
        }
    }
}

fn handler<S>(service: S) -> Handler
where
    S: Call<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    // tower's `call` takes the service by `&mut`; the clone is a reference count and some settings.
    Arc::new(move |request| {
        let left = grpc_timeout(request.headers());
        let answer = service.clone().call(request);
        Box::pin(in_time(left, answer))
    })
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
