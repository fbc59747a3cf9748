//! What every gRPC port has beside its own service: health as readiness tells it, and reflection of what is built in.
//!
//! Health: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>, reflection:
//! <https://github.com/grpc/grpc/blob/master/doc/server-reflection.md>

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, BoxFuture, Service, StdError};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tonic_reflection::server::Builder as Reflection;

pub use tonic_health::server::HealthReporter;
/// Descriptors that cannot be told of.
pub use tonic_reflection::server::Error as ReflectionError;

use crate::readiness::Readiness;

/// The health service's name.
pub const HEALTH_SERVICE: &str = "grpc.health.v1.Health";
/// The reflection service's name.
pub const REFLECTION_SERVICE: &str = "grpc.reflection.v1.ServerReflection";
/// Its name before it was stable; what there is of tools knows one or the other.
pub const REFLECTION_ALPHA_SERVICE: &str = "grpc.reflection.v1alpha.ServerReflection";

/// A service of any type.
pub type Handler<B> =
    Arc<dyn Fn(Request<B>) -> BoxFuture<Response<Body>, Infallible> + Send + Sync>;

/// The services that a port has beside its own.
pub struct Beside<B> {
    health: Handler<B>,
    reflection: Handler<B>,
    reflection_alpha: Handler<B>,
}

impl<B> Beside<B>
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<StdError> + Send,
{
    /// Tells of these services, which `descriptors` (a `FileDescriptorSet`) describe.
    ///
    /// # Errors
    /// If the descriptors are none.
    pub fn new(
        health: &HealthReporter,
        services: &[&str],
        descriptors: &[u8],
    ) -> Result<Self, ReflectionError> {
        let reflection = || {
            let builder = Reflection::configure()
                .register_encoded_file_descriptor_set(descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name(HEALTH_SERVICE);
            services
                .iter()
                .fold(builder, |builder, name| builder.with_service_name(*name))
        };
        let health = HealthService::from_health_reporter(health.clone());
        Ok(Self {
            health: handler(HealthServer::new(health)),
            reflection: handler(reflection().build_v1()?),
            reflection_alpha: handler(reflection().build_v1alpha()?),
        })
    }

    /// The service of this name, if it is one of them.
    #[must_use]
    pub fn find(&self, service: &str) -> Option<&Handler<B>> {
        match service {
            HEALTH_SERVICE => Some(&self.health),
            REFLECTION_SERVICE => Some(&self.reflection),
            REFLECTION_ALPHA_SERVICE => Some(&self.reflection_alpha),
            _ => None,
        }
    }
}

/// A service without its type.
pub fn handler<S, B>(service: S) -> Handler<B>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    // tower's `call` takes the service by `&mut`; the clone is a reference count and some settings.
    Arc::new(move |request| Box::pin(service.clone().call(request)))
}

/// The answer to a call of what is not there.
#[must_use]
pub fn unimplemented(path: &str) -> Response<Body> {
    Status::unimplemented(format!("there is no method {path} here")).into_http()
}

/// Keeps the health service telling what readiness tells, of the service and of the port as a whole.
pub async fn report_health(health: HealthReporter, readiness: Readiness, service: &str) {
    let mut ready = readiness.subscribe();
    loop {
        let status = if *ready.borrow_and_update() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        health.set_service_status("", status).await;
        health.set_service_status(service, status).await;
        // The sender lives in `readiness`, so this cannot fail.
        let _ = ready.changed().await;
    }
}

impl<B> Clone for Beside<B> {
    fn clone(&self) -> Self {
        Self {
            health: Arc::clone(&self.health),
            reflection: Arc::clone(&self.reflection),
            reflection_alpha: Arc::clone(&self.reflection_alpha),
        }
    }
}

impl<B> fmt::Debug for Beside<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside").finish_non_exhaustive()
    }
}
