//! The `google.rpc.Status` that a backend sends in `grpc-status-details-bin`.
//!
//! Each detail is an `Any`: one whose type the schema knows is written as its JSON with `@type`;
//! another one, or one whose bytes do not fit, keeps its bytes in base64. Bytes that are no
//! status count as no details. Spec: `google/rpc/status.proto`, `google/rpc/error_details.proto`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;

use super::string;
use crate::codec::Codec;

/// `google.rpc.Status`; code and message are told by the trailers.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`, as far as rules ask for it.
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
}

impl Any {
    /// The full name of its type.
    fn type_name(&self) -> &str {
        self.type_url.rsplit('/').next().unwrap_or_default()
    }
}

impl Status {
    pub(super) fn read(bytes: &[u8]) -> Option<Status> {
        Status::decode(bytes).ok()
    }

    /// The reason of the first `ErrorInfo`.
    pub(super) fn reason(&self) -> Option<String> {
        let info = self
            .details
            .iter()
            .find(|any| any.type_name() == "google.rpc.ErrorInfo")?;
        Some(ErrorInfo::decode(info.value.as_slice()).ok()?.reason)
    }

    pub(super) fn write_details(&self, codec: Option<&Codec>, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, any) in self.details.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let start = out.len();
            if codec
                .and_then(|codec| write_known(any, codec, out))
                .is_none()
            {
                out.truncate(start);
                write_unknown(any, out);
            }
        }
        out.push(b']');
    }
}

fn open(any: &Any, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"@type\":");
    string(&any.type_url, out);
}

/// The detail as its type's JSON; `None` if the type is unknown or does not fit.
fn write_known(any: &Any, codec: &Codec, out: &mut Vec<u8>) -> Option<()> {
    let message = codec.schema().message(any.type_name())?;
    let own_json = codec.schema().message_info(message).well_known.is_some();
    open(any, out);
    if own_json {
        out.extend_from_slice(b",\"value\":");
        codec.decode(message, &any.value, out).ok()?;
        out.push(b'}');
        return Some(());
    }
    let brace = out.len();
    codec.decode(message, &any.value, out).ok()?;
    // `{...}` becomes `,...}`; `{}` becomes `}`.
    let empty = out.get(brace..) == Some(b"{}".as_slice());
    if empty {
        out.remove(brace);
    } else if let Some(brace) = out.get_mut(brace) {
        *brace = b',';
    }
    Some(())
}

fn write_unknown(any: &Any, out: &mut Vec<u8>) {
    open(any, out);
    out.extend_from_slice(b",\"value\":\"");
    out.extend_from_slice(STANDARD.encode(&any.value).as_bytes());
    out.extend_from_slice(b"\"}");
}
