//! gRPC-Web: trailers as a last frame, and all of it in base64 where the client wants text. Specification:
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>. Padding may stand at the end of every piece.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;

use super::dialect::Dialect;

/// The flag of the frame that holds the trailers.
const TRAILERS: u8 = 0x80;
/// Characters that are decoded together, and bytes that are encoded together.
const GROUP: (usize, usize) = (4, 3);

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A body in base64, decoded as it comes.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// Characters that are no group yet.
    rest: Vec<u8>,
}

/// A body that is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotBase64;

/// A body in base64, encoded as it comes.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// Bytes that are no group yet.
    rest: Vec<u8>,
}

/// Appends the frame that ends an answer.
pub(super) fn last_frame(dialect: Dialect, trailers: &HeaderMap, out: &mut Vec<u8>) {
    let frame = trailers_frame(trailers);
    match dialect {
        Dialect::WebText => out.extend_from_slice(STANDARD.encode(frame).as_bytes()),
        _ => out.extend_from_slice(&frame),
    }
}

/// Trailers as lines of HTTP/1, in a frame.
pub(super) fn trailers_frame(trailers: &HeaderMap) -> Vec<u8> {
    let mut frame = vec![TRAILERS, 0, 0, 0, 0];
    for (name, value) in trailers {
        let line = [name.as_str().as_bytes(), b":", value.as_bytes(), b"\r\n"];
        line.iter().for_each(|part| frame.extend_from_slice(part));
    }
    // Headers are bounded far below 4 GiB.
    let length = u32::try_from(frame.len() - 5).unwrap_or(u32::MAX);
    frame[1..5].copy_from_slice(&length.to_be_bytes());
    frame
}

impl Decoder {
    /// Decodes what is whole with this piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, NotBase64> {
        let text = |byte: &&u8| !byte.is_ascii_whitespace();
        self.rest.extend(piece.iter().filter(text));
        let whole = self.rest.len() / GROUP.0 * GROUP.0;
        let mut bytes = Vec::with_capacity(whole / GROUP.0 * GROUP.1);
        let mut decoded = Ok(());
        for run in self.rest[..whole].chunk_by(|before, _| *before != b'=') {
            // A run that begins with padding belongs to the one before.
            let run = run.strip_prefix(b"=").unwrap_or(run);
            decoded = decoded.and(LENIENT.decode_vec(trimmed(run), &mut bytes));
        }
        self.rest.drain(..whole);
        decoded.map(|()| bytes).map_err(|_| NotBase64)
    }

    /// What is left at the end, which may lack its padding.
    pub(super) fn last(&mut self) -> Result<Vec<u8>, NotBase64> {
        let rest = std::mem::take(&mut self.rest);
        LENIENT.decode(trimmed(&rest)).map_err(|_| NotBase64)
    }
}

fn trimmed(run: &[u8]) -> &[u8] {
    let end = run.iter().rposition(|byte| *byte != b'=');
    &run[..end.map_or(0, |end| end + 1)]
}

impl Encoder {
    /// Appends what is a group with these bytes; the rest waits.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.len() / GROUP.1 * GROUP.1;
        out.extend_from_slice(STANDARD.encode(&self.rest[..whole]).as_bytes());
        self.rest.drain(..whole);
    }

    /// Appends the rest, with its padding.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(STANDARD.encode(&self.rest).as_bytes());
        self.rest.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_frame_has_the_trailers() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse().unwrap());
        let frame = trailers_frame(&trailers);
        assert_eq!(frame, b"\x80\0\0\0\x0fgrpc-status:5\r\n");
        assert_eq!(Decoder::default().push(b"!!!!"), Err(NotBase64));
    }

    proptest! {
        #[test]
        fn text_comes_back_however_it_is_cut(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6), cut in 1usize..9, carried: bool) {
            let (mut text, mut encoder) = (Vec::new(), Encoder::default());
            for part in &parts {
                encoder.push(part, &mut text);
                if !carried {
                    encoder.flush(&mut text);
                }
            }
            encoder.flush(&mut text);
            let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
            for piece in text.chunks(cut) {
                bytes.extend(decoder.push(piece).unwrap());
            }
            bytes.extend(decoder.last().unwrap());
            prop_assert_eq!(bytes, parts.concat());
        }

        #[test]
        fn no_bytes_panic(text in prop::collection::vec(prop::sample::select(&b"AB=!\n"[..]), 0..30)) {
            let mut decoder = Decoder::default();
            let _ = decoder.push(&text);
            let _ = decoder.last();
        }
    }
}
