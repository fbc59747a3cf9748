//! The gRPC request that a request becomes: its message or messages as JSON, and its metadata. It is encoded as it would be.

use std::fmt::Write;
use std::sync::Arc;

use mesh_config::model::Route;
use serde_json::Value;
use transcode::{Binding, Captures, Codec, JsonOptions, Upload};

use crate::edge::Head;
use crate::error::GatewayError;
use crate::grpc::Spoken;
use crate::metadata;
use crate::route_table::PassedMethod;

/// How many messages of a stream are shown.
const MESSAGES: usize = 5;

/// The messages, or why the request is refused.
pub(super) fn becomes(
    binding: &Binding,
    captures: &Captures,
    head: &Head,
    body: &[u8],
    out: &mut String,
) {
    let _ = writeln!(out, "becomes    gRPC {}", binding.grpc_path);
    let pieces = pieces(binding, body);
    for (number, piece) in pieces.iter().enumerate() {
        let message = encoded(binding, captures, head, piece, number == 0);
        let message = message.and_then(|wire| shown(binding, &wire));
        let _ = match message {
            Ok(json) => writeln!(out, "message    {json}"),
            Err(why) => writeln!(out, "answer     400: {why}"),
        };
    }
    let more = pieces.len() == MESSAGES && binding.client_streaming;
    let _ = match more {
        true => writeln!(out, "message    and more, if there are more"),
        false => Ok(()),
    };
}

/// The part of the body that each message is made of.
fn pieces(binding: &Binding, body: &[u8]) -> Vec<Vec<u8>> {
    if !binding.client_streaming || binding.takes_any_body() || body.is_empty() {
        return vec![body.to_vec()];
    }
    let values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let values: Result<Vec<Value>, _> = values.take(MESSAGES).collect();
    match values {
        Ok(values) => {
            let items = values.into_iter().flat_map(|value| match value {
                Value::Array(items) => items,
                one => vec![one],
            });
            let items = items.take(MESSAGES);
            items.map(|item| item.to_string().into_bytes()).collect()
        }
        // The transcoder says what is wrong with it.
        Err(_) => vec![body.to_vec()],
    }
}

fn encoded(
    binding: &Binding,
    captures: &Captures,
    head: &Head,
    piece: &[u8],
    first: bool,
) -> Result<Vec<u8>, String> {
    let (path, query) = (head.path(), head.query());
    let mut wire = Vec::new();
    let encoded = if binding.takes_any_body() {
        let kind = head.header("content-type").unwrap_or_default();
        let upload = Upload {
            content_type: std::str::from_utf8(kind).unwrap_or_default(),
            data: piece,
        };
        binding.encode_upload(path, captures, query, upload, &mut wire)
    } else if first {
        binding.encode_request(path, captures, query, piece, &mut wire)
    } else {
        binding.encode_element(piece, &mut wire)
    };
    encoded.map(|()| wire).map_err(|error| error.to_string())
}

fn shown(binding: &Binding, wire: &[u8]) -> Result<String, String> {
    let mut json = Vec::new();
    let codec = Codec::new(Arc::clone(binding.codec().schema()), JsonOptions::default());
    let decoded = codec.decode(binding.input, wire, &mut json);
    decoded.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&json).into_owned())
}

/// The headers that reach the backend.
pub(super) fn crossing(route: Option<&Route>, head: &Head, out: &mut String) {
    let options = route.and_then(Route::transcode);
    let listed = |name: &[u8]| {
        let mut names = options.iter().flat_map(|options| &options.request_metadata);
        names.any(|listed| listed.as_bytes() == name)
    };
    for (name, value) in head.end_to_end() {
        let name = match metadata::crossing(name, value) {
            Some((name, _)) => name.to_string(),
            None if listed(name) => String::from_utf8_lossy(name).into_owned(),
            None => continue,
        };
        let value = String::from_utf8_lossy(value);
        let _ = writeln!(out, "metadata   {name}: {value}");
    }
}

/// What becomes of a call of gRPC, and what is known of its method.
pub(super) fn passed(methods: &[PassedMethod], head: &Head, out: &mut String) {
    let Some(spoken) = Spoken::of(head, true) else {
        let _ = writeln!(out, "answer     415: {}", GatewayError::NotGrpc);
        return;
    };
    let known = methods
        .iter()
        .find(|known| known.method.path() == head.path());
    let kind = match known.map(|known| known.streams) {
        None => "its descriptor is not known, so it may stream",
        Some((false, false)) => "one message each way",
        Some((false, true)) => "the server streams",
        Some((true, false)) => "the client streams",
        Some((true, true)) => "both sides stream",
    };
    let (dialect, path) = (spoken.dialect.as_str(), head.path());
    let _ = writeln!(out, "becomes    gRPC {path}, from {dialect} ({kind})");
}
