//! Bodies on their way into messages of gRPC, and out of them: the prefix of a message, and bodies that are no JSON
//! (`google.api.HttpBody`) with their types.

use bytes::Bytes;
use http::HeaderValue;
use transcode::{Download, Upload};

use crate::edge::Head;

/// Bytes of the prefix of a gRPC message: a flag and the length.
const PREFIX: usize = 5;

/// A message behind its gRPC prefix. `about`: how long it may be.
pub(crate) fn framed<E>(
    about: usize,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Bytes, E> {
    let mut wire = Vec::with_capacity(PREFIX + about + 16);
    wire.extend_from_slice(&[0; PREFIX]);
    encode(&mut wire)?;
    // The body's limit keeps a message far below 4 GiB.
    let length = u32::try_from(wire.len() - PREFIX).unwrap_or(u32::MAX);
    wire[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(wire.into())
}

/// The body of a request that is taken as it is, whatever its type.
pub(crate) fn upload<'b>(head: &'b Head, data: &'b [u8]) -> Upload<'b> {
    let kind = head.header("content-type").unwrap_or_default();
    Upload {
        content_type: std::str::from_utf8(kind).unwrap_or_default(),
        data,
    }
}

/// The content type that a backend gives a body.
pub(crate) fn type_of(download: Download<'_>) -> HeaderValue {
    const UNKNOWN: HeaderValue = HeaderValue::from_static("application/octet-stream");
    match download.content_type {
        b"" => UNKNOWN,
        kind => HeaderValue::from_bytes(kind).unwrap_or(UNKNOWN),
    }
}
