//! The codings that are spoken here, and how whole bodies and messages are encoded and decoded by them.
//!
//! Refused: what decodes to more than a limit, before more than that is decoded, and zstd's windows of more than 8 MiB.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// What the codings are told to do: about as fast as each other, for bodies that are made once and read once.
pub(super) const GZIP_LEVEL: u32 = 4;
pub(super) const BROTLI_QUALITY: u32 = 4;
const BROTLI_WINDOW: u32 = 20;
const ZSTD_LEVEL: i32 = 3;
/// The largest window that a body may ask for, as a power of two: 8 MiB, which RFC 9659 says is enough.
const ZSTD_WINDOW: u32 = 23;
pub(super) const BUFFER: usize = 16 * 1024;

/// A coding that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

/// Best first, where a client likes several alike.
const CODINGS: [(&str, Coding); 3] = [
    ("zstd", Coding::Zstd),
    ("br", Coding::Brotli),
    ("gzip", Coding::Gzip),
];

/// Why nothing could be decoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    /// It is more than may be.
    #[error("it decodes to more than {0} bytes")]
    TooLarge(usize),
    /// It is not what it is said to be.
    #[error("it is not {0}: {1}")]
    Broken(&'static str, io::Error),
}

impl Coding {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        // The old name of gzip (RFC 9110 section 8.4.1.3).
        let name = if name.eq_ignore_ascii_case(b"x-gzip") {
            b"gzip"
        } else {
            name
        };
        let mut codings = CODINGS.into_iter();
        let known = codings.find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
        known.map(|(_, coding)| coding)
    }

    /// What a client likes best (RFC 9110 section 12.5.3).
    pub(crate) fn wanted(accept: &[u8]) -> Option<Self> {
        let accept = std::str::from_utf8(accept).ok()?;
        let mut best = None;
        for (name, coding) in CODINGS {
            let weight = weight(accept, name);
            if weight > best.map_or(0.0, |(most, _)| most) {
                best = Some((weight, coding));
            }
        }
        best.map(|(_, coding)| coding)
    }

    pub(crate) fn encode(self, body: &[u8]) -> io::Result<Vec<u8>> {
        let out = Vec::with_capacity(body.len() / 4);
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, Compression::new(GZIP_LEVEL));
                encoder.write_all(body)?;
                encoder.finish()
            }
            Self::Brotli => {
                let (quality, window) = (BROTLI_QUALITY, BROTLI_WINDOW);
                let mut encoder = brotli::CompressorWriter::new(out, BUFFER, quality, window);
                encoder.write_all(body)?;
                Ok(encoder.into_inner())
            }
            Self::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
        }
    }

    /// What was encoded, of which there may be `most` bytes.
    pub(crate) fn decode(self, body: &[u8], most: usize) -> Result<Vec<u8>, DecodeError> {
        let decoded = self
            .decode_up_to(body, most)
            .map_err(|why| DecodeError::Broken(self.as_str(), why))?;
        match decoded.len() > most {
            true => Err(DecodeError::TooLarge(most)),
            false => Ok(decoded),
        }
    }

    /// Decodes one byte more than may be, so that it is seen to be too much.
    fn decode_up_to(self, body: &[u8], most: usize) -> io::Result<Vec<u8>> {
        let most = most as u64 + 1;
        let mut decoded = Vec::new();
        match self {
            Self::Gzip => MultiGzDecoder::new(body)
                .take(most)
                .read_to_end(&mut decoded)?,
            Self::Brotli => {
                let decoder = brotli::Decompressor::new(body, BUFFER);
                decoder.take(most).read_to_end(&mut decoded)?
            }
            Self::Zstd => {
                let mut decoder = zstd::Decoder::new(body)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                decoder.take(most).read_to_end(&mut decoded)?
            }
        };
        Ok(decoded)
    }
}

/// How much a client likes a coding: 0 is not at all.
fn weight(accept: &str, name: &str) -> f32 {
    let mut any = 0.0;
    for item in accept.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let q = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let q: f32 = q.map_or(Some(1.0), |q| q.parse().ok()).unwrap_or(0.0);
        if coding.eq_ignore_ascii_case(name) {
            return q;
        }
        if coding == "*" {
            any = q;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clients_get_what_they_like_best() {
        for (accept, expected) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("br;q=0.5, GZIP", Some(Coding::Gzip)),
            ("*", Some(Coding::Zstd)),
            ("*, zstd;q=0", Some(Coding::Brotli)),
            ("identity", None),
            ("gzip;q=0", None),
            ("gzip;q=nonsense", None),
            ("", None),
        ] {
            assert_eq!(Coding::wanted(accept.as_bytes()), expected, "{accept}");
        }
    }

    #[test]
    fn a_bomb_is_not_decoded_beyond_the_limit() {
        let zeros = vec![0; 4 << 20];
        for (name, coding) in CODINGS {
            let bomb = coding.encode(&zeros).unwrap();
            assert!(bomb.len() < 8 << 10, "{name}: {} bytes", bomb.len());
            let refused = coding.decode(&bomb, 1000);
            assert!(
                matches!(refused, Err(DecodeError::TooLarge(1000))),
                "{name}"
            );
            assert!(coding.decode(&[0xff; 9], 1000).is_err(), "{name}");
            assert!(
                coding.decode(&bomb[..bomb.len() / 2], zeros.len()).is_err(),
                "{name}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(body in prop::collection::vec(any::<u8>(), 0..3000)) {
            for (_, coding) in CODINGS {
                let encoded = coding.encode(&body).unwrap();
                prop_assert_eq!(&coding.decode(&encoded, body.len()).unwrap(), &body);
            }
        }

        #[test]
        fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for (_, coding) in CODINGS {
                if let Ok(decoded) = coding.decode(&body, 100) {
                    prop_assert!(decoded.len() <= 100);
                }
            }
        }
    }
}
