//! The OpenAPI document of every transcoded route, and the page on the admin port that shows it and tries requests out.
//!
//! A request of the page goes through the gateway's own first listener, so it is routed, limited and counted like any other. Refused:
//! trying anything that is not a request to this gateway.

mod attempt;

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use service_kit::{Admin, Response};
use transcode::openapi::{self, Info, Operation};

use crate::admin::Pages;
use crate::route_table::{self, Plan, Planned};

/// The page; it loads the document from beside it.
const PAGE: &str = include_str!("openapi/page.html");

/// The document and its page on the admin port, where they are wanted.
pub(crate) fn add_to(admin: Admin, pages: &Arc<Pages>) -> Admin {
    let Some(listeners) = pages.openapi.clone() else {
        return admin;
    };
    let (pages, first) = (pages.clone(), listeners.first().copied());
    admin
        .page("/openapi.json", move |_| in_force(&pages, &listeners))
        .page("/openapi", |_| Response::html(PAGE))
        .own_action("/openapi", move |asked| attempt::attempt(first, asked))
}

/// The document of what is in force.
fn in_force(pages: &Pages, listeners: &[SocketAddr]) -> Response {
    let servers = listeners.iter();
    let servers = servers.map(|address| format!("http://{address}"));
    match route_table::compile(&pages.config.load().snapshot) {
        Ok(plan) => Response::json(&document(&plan, servers.collect())),
        // It has been compiled before.
        Err(problems) => Response::text(problems.to_string()).with_status(500),
    }
}

/// The document of a configuration. `servers`: where its requests go.
pub(crate) fn document(plan: &Plan, servers: Vec<String>) -> Value {
    let operations = plan.rows.iter().filter_map(|row| {
        let stream = match &row.action {
            Planned::Stream { form, .. } => Some(form.media_type()),
            _ => None,
        };
        Some(Operation {
            binding: row.action.binding()?,
            methods: row.conditions.methods().map(str::to_owned).collect(),
            route: &row.route,
            stream,
            limited: plan
                .route(row)
                .is_some_and(|route| route.rate_limit.is_some()),
        })
    });
    let info = Info {
        title: "Highpress gateway".to_owned(),
        version: plan.snapshot.version.clone(),
        servers,
    };
    openapi::document(&info, operations)
}

/// Where the listeners of a configuration are reached, as far as it says so itself.
pub(crate) fn servers(plan: &Plan) -> Vec<String> {
    let listeners = plan
        .snapshot
        .listeners
        .iter()
        .map(|listener| listener.address);
    let known = listeners.filter(|address| address.port() != 0 && !address.ip().is_unspecified());
    known.map(|address| format!("http://{address}")).collect()
}
