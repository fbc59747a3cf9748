//! The paths that every admin port has, and the answer to those that it has not.

use serde_json::{Map, Value, json};

use super::{Admin, RequestView, Response};
use crate::metrics;

/// The paths of every admin port, in the order in which a 404 lists them.
const BUILT_IN: [&str; 5] = ["/livez", "/readyz", "/health", "/metrics", "/status"];

impl Admin {
    /// Answers one GET or HEAD. A program's own page wins over a built-in one of the same path.
    pub(super) fn answer(&self, request: &RequestView<'_>) -> Response {
        if let Some((_, handler)) = self.pages.iter().find(|(path, _)| *path == request.path) {
            return handler(request);
        }
        match request.path {
            "/livez" => Response::text("ok\n"),
            "/readyz" => self.readyz(),
            "/health" => self.health(),
            "/metrics" => self.metrics(),
            "/status" => Response::json(&self.status_value()),
            _ => self.not_found(),
        }
    }

    fn readyz(&self) -> Response {
        let waiting = self.readiness.waiting_for();
        if waiting.is_empty() {
            return Response::text("ready\n");
        }
        Response::text(format!("waiting for: {}\n", waiting.join(", "))).with_status(503)
    }

    /// The name of the time before `/livez` and `/readyz`: means the latter, in the JSON of those days.
    fn health(&self) -> Response {
        let waiting = self.readiness.waiting_for();
        let ready = waiting.is_empty();
        let status = if ready { "healthy" } else { "unhealthy" };
        let body = json!({
            "status": status,
            "service": self.service,
            "version": self.version,
            "waiting_for": waiting,
        });
        Response::json(&body).with_status(if ready { 200 } else { 503 })
    }

    fn metrics(&self) -> Response {
        match metrics::text(&self.registry) {
            Ok(text) => Response {
                content_type: metrics::CONTENT_TYPE,
                ..Response::text(text)
            },
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                Response::text("metrics cannot be written: see the log\n").with_status(500)
            }
        }
    }

    fn status_value(&self) -> Value {
        let waiting = self.readiness.waiting_for();
        let mut all = Map::new();
        all.insert("service".to_owned(), json!(self.service));
        all.insert("version".to_owned(), json!(self.version));
        all.insert("ready".to_owned(), json!(waiting.is_empty()));
        all.insert("waiting_for".to_owned(), json!(waiting));
        if let Value::Object(own) = (self.status)() {
            all.extend(own);
        }
        Value::Object(all)
    }

    fn not_found(&self) -> Response {
        let mut body = String::from("not found; there is:\n");
        for path in BUILT_IN
            .iter()
            .chain(self.pages.iter().map(|(path, _)| path))
        {
            body.push_str(path);
            body.push('\n');
        }
        Response::text(body).with_status(404)
    }
}
