//! The admin port: health, readiness, metrics, status, and what else a program shows of itself.
//!
//! Plain HTTP/1.1 for scrapers, probes and people on a loopback address: small limits on sizes, time and connections, no
//! authentication (bind it where only operators reach it). Pages are read by GET and HEAD. Actions are POSTs of JSON that no
//! browser sends, but for pages of this very port where an action says so: a page that somebody has open must not be able to act
//! on the operator's behalf. It goes on serving while the program drains, so that the drain can be watched, and stops when the program says so or goes away.

mod pages;
mod server;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::readiness::Readiness;

pub use self::server::AdminServer;

/// What a handler sees of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The path, as sent.
    pub path: &'a str,
    /// The query without its question mark, as sent.
    pub query: Option<&'a str>,
    /// The `Accept` header; empty when there is none.
    pub accept: &'a str,
    /// `GET` or `HEAD`. The body of an answer to HEAD is not sent, so handlers need not care.
    pub method: &'a str,
}

impl RequestView<'_> {
    /// True when the caller asks for JSON rather than for a page.
    pub fn wants_json(&self) -> bool {
        self.accept.contains("json")
    }
}

/// A handler's answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The whole body.
    pub body: Bytes,
}

impl Response {
    /// 200 with plain text.
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    /// 200 with a page.
    pub fn html(body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            content_type: "text/html; charset=utf-8",
            body: body.into(),
        }
    }

    /// 200 with JSON.
    pub fn json(value: &Value) -> Self {
        let body = Bytes::from(value.to_string());
        Self {
            status: 200,
            content_type: "application/json; charset=utf-8",
            body,
        }
    }

    /// The same with another status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

type Handler = Box<dyn Fn(&RequestView<'_>) -> Response + Send + Sync>;
type Action = Box<dyn Fn(Value) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;
type Refresh = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Everything that an admin port serves, before it is bound.
pub struct Admin {
    service: String,
    version: String,
    registry: Registry,
    readiness: Readiness,
    status: Box<dyn Fn() -> Value + Send + Sync>,
    refresh: Option<Refresh>,
    pages: Vec<(&'static str, Handler)>,
    actions: Vec<(&'static str, Action, By)>,
}

/// Who may ask for an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Programs, which are no browsers.
    Tools,
    /// Pages of this port, too.
    OwnPages,
}

impl Admin {
    /// `service` and `version` stand in `/status` and `/health`; the registry should be one of [`crate::metrics::registry`].
    pub fn new(service: &str, version: &str, registry: Registry, readiness: Readiness) -> Self {
        Self {
            service: service.to_owned(),
            version: version.to_owned(),
            registry,
            readiness,
            status: Box::new(|| Value::Null),
            refresh: None,
            pages: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// What `/status` gives beside `service`, `version`, `ready` and `waiting_for`: an object whose keys are added.
    #[must_use]
    pub fn status(mut self, status: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        self.status = Box::new(status);
        self
    }

    /// What is done before `/status` and `/metrics` are answered, so that they tell what is true then. It must end soon by
    /// itself, whatever it asks.
    #[must_use]
    pub fn refresh<F>(mut self, refresh: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.refresh = Some(Box::new(move || Box::pin(refresh())));
        self
    }

    /// Serves one more exact path. Handlers run on the admin port's task and must not block.
    #[must_use]
    pub fn page(
        mut self,
        path: &'static str,
        handler: impl Fn(&RequestView<'_>) -> Response + Send + Sync + 'static,
    ) -> Self {
        self.pages.push((path, Box::new(handler)));
        self
    }

    /// Takes POSTs of JSON on one exact path, which may have a page too. Handlers must not block for long.
    #[must_use]
    pub fn action<F>(
        mut self,
        path: &'static str,
        handler: impl Fn(Value) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        self.act_on(path, handler, By::Tools);
        self
    }

    /// The same for pages of this port, too, where it is reached by an address and not by a name: a name can be made to point here
    /// by whoever owns it.
    #[must_use]
    pub fn own_action<F>(
        mut self,
        path: &'static str,
        handler: impl Fn(Value) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        self.act_on(path, handler, By::OwnPages);
        self
    }

    fn act_on<F>(
        &mut self,
        path: &'static str,
        handler: impl Fn(Value) -> F + Send + Sync + 'static,
        by: By,
    ) where
        F: Future<Output = Response> + Send + 'static,
    {
        let handler = move |asked| -> Pin<Box<dyn Future<Output = Response> + Send>> {
            Box::pin(handler(asked))
        };
        self.actions.push((path, Box::new(handler), by));
    }

    /// Binds the address and serves on the current runtime.
    pub async fn bind(self, address: SocketAddr) -> io::Result<AdminServer> {
        self.serve(TcpListener::bind(address).await?)
    }

    /// Serves on a bound listener, on the current runtime.
    pub fn serve(self, listener: TcpListener) -> io::Result<AdminServer> {
        AdminServer::start(Arc::new(self), listener)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("service", &self.service)
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}
