//! From the path of a call to the service that answers it: the counter, health, reflection.
//!
//! A plain `match` on the handful of paths there are. What it does not know is UNIMPLEMENTED.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use proto::counter::counter_service_server::CounterServiceServer;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tonic_reflection::server::Builder as Reflection;

use crate::service::Counters;

/// The counter service's name in the descriptor.
pub(crate) const COUNTER_SERVICE: &str = "counter.CounterService";

/// A method as metrics name it: fixed words, whatever the caller sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Counter(&'static str),
    Health(&'static str),
    ReflectionV1,
    ReflectionV1Alpha,
    Unknown,
}

impl Method {
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/counter.CounterService/IncrementCounter" => Self::Counter("IncrementCounter"),
            "/counter.CounterService/GetCounter" => Self::Counter("GetCounter"),
            "/counter.CounterService/BatchGetCounters" => Self::Counter("BatchGetCounters"),
            "/counter.CounterService/GetStatus" => Self::Counter("GetStatus"),
            "/grpc.health.v1.Health/Check" => Self::Health("Check"),
            "/grpc.health.v1.Health/Watch" => Self::Health("Watch"),
            "/grpc.health.v1.Health/List" => Self::Health("List"),
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" => Self::ReflectionV1,
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => {
                Self::ReflectionV1Alpha
            }
            _ => Self::Unknown,
        }
    }

    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::Counter(_) => COUNTER_SERVICE,
            Self::Health(_) => "grpc.health.v1.Health",
            Self::ReflectionV1 => "grpc.reflection.v1.ServerReflection",
            Self::ReflectionV1Alpha => "grpc.reflection.v1alpha.ServerReflection",
            Self::Unknown => "unknown",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Counter(name) | Self::Health(name) => name,
            Self::ReflectionV1 | Self::ReflectionV1Alpha => "ServerReflectionInfo",
            Self::Unknown => "unknown",
        }
    }
}

/// A service of any type, for those that are not on the hot path.
type Handler = Arc<
    dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> + Send + Sync,
>;

/// The services.
#[derive(Clone)]
pub(crate) struct Dispatch {
    counters: CounterServiceServer<Counters>,
    health: Handler,
    reflection_v1: Handler,
    reflection_v1alpha: Handler,
}

impl Dispatch {
    pub(crate) fn new(
        counters: Counters,
        health: HealthService,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let reflection = || {
            Reflection::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name(COUNTER_SERVICE)
                .with_service_name("grpc.health.v1.Health")
        };
        Ok(Self {
            counters: CounterServiceServer::new(counters),
            health: handler(HealthServer::new(health)),
            reflection_v1: handler(reflection().build_v1()?),
            reflection_v1alpha: handler(reflection().build_v1alpha()?),
        })
    }

    pub(crate) async fn call(&self, method: Method, request: Request<Incoming>) -> Response<Body> {
        match method {
            // tower's `call` takes the service by `&mut`; the clone is a reference count and some settings.
            Method::Counter(_) => answer(self.counters.clone().call(request).await),
            Method::Health(_) => (self.health)(request).await,
            Method::ReflectionV1 => (self.reflection_v1)(request).await,
            Method::ReflectionV1Alpha => (self.reflection_v1alpha)(request).await,
            Method::Unknown => unimplemented(request.uri().path()),
        }
    }
}

fn handler<S>(service: S) -> Handler
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    Arc::new(move |request| {
        let called = service.clone().call(request);
        Box::pin(async move { answer(called.await) })
    })
}

/// tonic's services answer errors as responses.
fn answer(result: Result<Response<Body>, Infallible>) -> Response<Body> {
    let Ok(response) = result;
    response
}

fn unimplemented(path: &str) -> Response<Body> {
    Status::unimplemented(format!("there is no method {path} here")).into_http()
}
