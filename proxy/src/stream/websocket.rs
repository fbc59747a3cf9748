//! Methods that stream, over WebSockets, as users of grpc-websocket-proxy know them: a message of text is a message in JSON, `?method=`
//! says by which method of HTTP the path is meant, and a token may stand in `Sec-WebSocket-Protocol: Bearer, TOKEN`,
//! the one header that a browser's scripts can set.
//!
//! Which requests these are is asked of the table first; all others for a WebSocket are passed through like any request.

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderValue, Method};

use crate::edge::{Head, Headers, Lane, Upgrade};
use crate::metadata::Metadata;
use crate::route_table::{Found, RouteTable, Target};
use crate::unary::Call;

/// The query parameter for the method.
const PARAMETER: &str = "method";
/// The protocol that stands for: the next one is a token.
const BEARER: &str = "Bearer";

/// The row that takes a request for a WebSocket.
pub(crate) fn find(table: &RouteTable, head: &Head) -> Found {
    let (method, _) = method(table, head);
    table.find_as(head, &method)
}

/// What becomes of the connection for a call of a method that streams.
pub(crate) fn lane(call: Call, head: &Head) -> Lane<Call> {
    let row = call.table.row(call.row);
    let Some(row) = row else {
        return Lane::Stream { call };
    };
    let Target::Stream(streamed) = &row.target else {
        return Lane::Stream { call };
    };
    let (method, parameter) = method(&call.table, head);
    let mut headers = Headers::new();
    if token(head).is_some() {
        headers.push((SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BEARER)));
    }
    row.policies.shaping.answer(&mut headers);
    let binding = &streamed.transcoded.binding;
    let (max_message, text) = (streamed.transcoded.max_body, !binding.gives_any_body());
    let ends_by_close = binding.client_streaming && !binding.server_streaming;
    Lane::WebSocket(Box::new(Upgrade {
        headers,
        method,
        parameter,
        max_message,
        text,
        ends_by_close,
        call,
    }))
}

/// Adds the token that a client could say in no other way.
pub(super) fn authorize(head: &Head, metadata: &mut Metadata) {
    let bearer = token(head).map(|token| HeaderValue::try_from(format!("{BEARER} {token}")));
    if let Some(Ok(mut bearer)) = bearer {
        bearer.set_sensitive(true);
        metadata.retain(|(name, _)| *name != AUTHORIZATION);
        metadata.push((AUTHORIZATION, bearer));
    }
}

/// The method by which a path is meant: as the query says, if a method that streams stands there; else GET, as browsers
/// send it, or POST where the path takes no GET.
fn method(table: &RouteTable, head: &Head) -> (Method, Option<&'static str>) {
    let streams = |method: &Method| match table.find_as(head, method) {
        Found::Row(row, _) => table
            .row(row)
            .is_some_and(|row| matches!(row.target, Target::Stream(_))),
        _ => false,
    };
    if let Some(method) = said(head).filter(|method| streams(method)) {
        return (method, Some(PARAMETER));
    }
    let takes_get = !matches!(
        table.find_as(head, &Method::GET),
        Found::MethodNotAllowed { .. }
    );
    match takes_get || !streams(&Method::POST) {
        true => (Method::GET, None),
        false => (Method::POST, None),
    }
}

fn said(head: &Head) -> Option<Method> {
    let mut pairs = head.query()?.split('&');
    let value = pairs.find_map(|pair| pair.strip_prefix(PARAMETER)?.strip_prefix('='))?;
    Method::from_bytes(value.as_bytes()).ok()
}

/// What stands behind `Bearer` in the list of protocols, which may be on several lines.
fn token(head: &Head) -> Option<&str> {
    let lines = head
        .headers()
        .filter(|(name, _)| *name == SEC_WEBSOCKET_PROTOCOL.as_str().as_bytes());
    let mut protocols = lines
        .filter_map(|(_, value)| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    protocols.find(|protocol| *protocol == BEARER)?;
    protocols.next().filter(|token| !token.is_empty())
}
