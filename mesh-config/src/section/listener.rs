//! `listeners` and `admin`: the doors, which are boot settings.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::model::{Admin, EdgeLimits, Listener, Protocols};
use crate::reader::Value;
use crate::report::Report;
use crate::schema::{ADMIN, Choices, LISTENER, LISTENER_LIMITS};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    H2c,
}

const PROTOCOLS: Choices<Protocol> = &[
    ("http1", Some(Protocol::Http1)),
    ("h2c", Some(Protocol::H2c)),
];

/// A listener as far as it could be read: its address may clash even if something else is wrong with it.
pub(crate) struct Declared {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) limits: Option<EdgeLimits>,
    pub(crate) listener: Option<Listener>,
}

/// What stands for `listeners` where it is not given.
pub(crate) fn default_listeners() -> Vec<Declared> {
    let listener = Listener::default();
    let (address, limits) = (Some(listener.address), Some(listener.limits));
    vec![Declared {
        address,
        limits,
        listener: Some(listener),
    }]
}

pub(crate) fn listeners(value: &Value<'_>, report: &mut Report) -> Vec<Declared> {
    let items = value.items(report).unwrap_or_default();
    items.iter().map(|item| listener(item, report)).collect()
}

fn listener(value: &Value<'_>, report: &mut Report) -> Declared {
    let Some(fields) = value.fields(&LISTENER, report) else {
        return Declared {
            address: None,
            limits: None,
            listener: None,
        };
    };
    let address = fields
        .require("address", report)
        .and_then(|value| value.parsed(report, bind_address));
    let protocols = match fields.get("protocols") {
        Some(value) => protocols(&value, report),
        None => Some(Protocols::default()),
    };
    let limits = match fields.get("limits") {
        Some(value) => limits(&value, report),
        None => Some(EdgeLimits::default()),
    };
    let whole = || {
        Some(Listener {
            address: address?,
            protocols: protocols?,
            limits: limits?,
        })
    };
    let listener = whole();
    Declared {
        address,
        limits,
        listener,
    }
}

fn protocols(value: &Value<'_>, report: &mut Report) -> Option<Protocols> {
    let mut protocols = Protocols {
        http1: false,
        h2c: false,
    };
    for item in value.items(report)? {
        let Some(protocol) = item.choice(PROTOCOLS, report) else {
            continue;
        };
        let flag = match protocol {
            Protocol::Http1 => &mut protocols.http1,
            Protocol::H2c => &mut protocols.h2c,
        };
        if *flag {
            item.problem(report, "this protocol is listed already: remove it");
        }
        *flag = true;
    }
    Some(protocols)
}

fn limits(value: &Value<'_>, report: &mut Report) -> Option<EdgeLimits> {
    let fields = value.fields(&LISTENER_LIMITS, report)?;
    let defaults = EdgeLimits::default();
    let mut timeout = |key, default| {
        fields
            .get(key)
            .and_then(|value| value.timeout(report))
            .unwrap_or(default)
    };
    let header_timeout = timeout("header_timeout", defaults.header_timeout);
    let body_timeout = timeout("body_timeout", defaults.body_timeout);
    let write_timeout = timeout("write_timeout", defaults.write_timeout);
    let idle_timeout = timeout("idle_timeout", defaults.idle_timeout);
    let mut size = |key, default| {
        fields
            .get(key)
            .and_then(|value| value.size(report))
            .unwrap_or(default)
    };
    let max_header_bytes = size("max_header_bytes", defaults.max_header_bytes);
    let max_uri = size("max_uri", defaults.max_uri);
    let max_body = size("max_body", defaults.max_body);
    let mut number = |key, default| {
        fields
            .get(key)
            .and_then(|value| value.positive(report))
            .unwrap_or(default)
    };
    let max_headers = number("max_headers", defaults.max_headers);
    let max_connections = number("max_connections", defaults.max_connections);
    let max_streams = number("max_streams", defaults.max_streams);
    Some(EdgeLimits {
        header_timeout,
        body_timeout,
        write_timeout,
        idle_timeout,
        max_header_bytes,
        max_headers,
        max_uri,
        max_body,
        max_connections,
        max_streams,
    })
}

pub(crate) fn admin(value: &Value<'_>, report: &mut Report) -> Option<Admin> {
    let fields = value.fields(&ADMIN, report)?;
    let address = fields
        .require("address", report)
        .and_then(|value| value.parsed(report, bind_address));
    let openapi = fields
        .get("openapi")
        .and_then(|value| value.boolean(report));
    Some(Admin {
        address: address?,
        openapi: openapi.unwrap_or(true),
    })
}

/// An address to listen on: an IP address (or `localhost`) and a port, which may be 0.
pub(super) fn bind_address(text: &str) -> Result<SocketAddr, String> {
    let form =
        "write ip:port, such as 127.0.0.1:8080, 0.0.0.0:8080 for all interfaces, or [::]:8080";
    if let Some(port) = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok())
    {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse()
        .map_err(|_| format!("`{text}` is not an address to listen on: {form}"))
}
