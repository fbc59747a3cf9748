//! From the path of a call to the service that answers it: the counter, health, reflection.
//!
//! A plain `match` on the handful of paths there are. What it does not know is UNIMPLEMENTED.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use proto::counter::counter_service_server::CounterServiceServer;
use service_kit::grpc::{
    Beside, HEALTH_SERVICE, HealthReporter, REFLECTION_ALPHA_SERVICE, REFLECTION_SERVICE,
    ReflectionError, unimplemented,
};
use tonic::body::Body;
use tonic::codegen::Service;

use crate::service::Counters;
use crate::unary::{self, Answer};

/// The counter service's name in the descriptor.
pub(crate) const COUNTER_SERVICE: &str = "counter.CounterService";

/// A method as metrics name it: fixed words, whatever the caller sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Increment,
    Counter(&'static str),
    Health(&'static str),
    ReflectionV1,
    ReflectionV1Alpha,
    Unknown,
}

impl Method {
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/counter.CounterService/IncrementCounter" => Self::Increment,
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
            Self::Increment | Self::Counter(_) => COUNTER_SERVICE,
            Self::Health(_) => HEALTH_SERVICE,
            Self::ReflectionV1 => REFLECTION_SERVICE,
            Self::ReflectionV1Alpha => REFLECTION_ALPHA_SERVICE,
            Self::Unknown => "unknown",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Increment => "IncrementCounter",
            Self::Counter(name) | Self::Health(name) => name,
            Self::ReflectionV1 | Self::ReflectionV1Alpha => "ServerReflectionInfo",
            Self::Unknown => "unknown",
        }
    }
}

/// The services.
#[derive(Clone)]
pub(crate) struct Dispatch {
    increments: Arc<Counters>,
    counters: CounterServiceServer<Counters>,
    beside: Beside<Incoming>,
}

impl Dispatch {
    pub(crate) fn new(
        counters: Counters,
        health: &HealthReporter,
    ) -> Result<Self, ReflectionError> {
        let counters = Arc::new(counters);
        Ok(Self {
            counters: CounterServiceServer::from_arc(counters.clone()),
            increments: counters,
            beside: Beside::new(health, &[COUNTER_SERVICE], proto::DESCRIPTOR_SET)?,
        })
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        request: Request<Incoming>,
    ) -> Response<Answer> {
        if method == Method::Increment && unary::is_plain(request.headers()) {
            return self.increments.increment_unary(request).await;
        }
        self.call_tonic(method, request).await.map(Answer::Tonic)
    }

    async fn call_tonic(&self, method: Method, request: Request<Incoming>) -> Response<Body> {
        if let Method::Increment | Method::Counter(_) = method {
            // tower's `call` takes the service by `&mut`; the clone is a reference count and some settings.
            return answer(self.counters.clone().call(request).await);
        }
        match self.beside.find(method.service()) {
            Some(service) => answer(service(request).await),
            None => unimplemented(request.uri().path()),
        }
    }
}

/// tonic's services answer errors as responses.
fn answer(result: Result<Response<Body>, Infallible>) -> Response<Body> {
    let Ok(response) = result;
    response
}
