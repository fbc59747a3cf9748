//! A body that goes on, encoded piece by piece: whatever was put in can be read by the client when it has what came out.
//!
//! Of less memory and effort than whole bodies: a stream may last for hours, and there may be many of them.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::coding::{BROTLI_QUALITY, BUFFER, Coding, GZIP_LEVEL};

/// Windows of 64 KiB.
const BROTLI_WINDOW: u32 = 16;
const ZSTD_WINDOW: u32 = 16;
const ZSTD_LEVEL: i32 = 1;

/// Encodes a body that goes on.
pub(crate) struct Flow(Encoder);

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Flow {
    /// An encoder for that coding.
    pub(super) fn new(coding: Coding) -> io::Result<Self> {
        Ok(Self(match coding {
            Coding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))),
            Coding::Brotli => {
                let (quality, window) = (BROTLI_QUALITY, BROTLI_WINDOW);
                let writer = brotli::CompressorWriter::new(Vec::new(), BUFFER, quality, window);
                Encoder::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW)?;
                Encoder::Zstd(encoder)
            }
        }))
    }

    /// What a piece becomes.
    pub(crate) fn push(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        Ok(match &mut self.0 {
            Encoder::Gzip(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            Encoder::Brotli(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            Encoder::Zstd(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
        })
    }

    /// What ends it.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self.0 {
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Brotli(encoder) => Ok(encoder.into_inner()),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use super::*;

    /// As much as can be read of it by now.
    fn readable(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut reader: Box<dyn Read> = match coding {
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
            Coding::Brotli => Box::new(brotli::Decompressor::new(bytes, BUFFER)),
            Coding::Zstd => Box::new(zstd::Decoder::new(bytes).unwrap()),
        };
        let (mut read, mut piece) = (Vec::new(), [0; 7]);
        while let Ok(count @ 1..) = reader.read(&mut piece) {
            read.extend_from_slice(&piece[..count]);
        }
        read
    }

    #[test]
    fn every_piece_can_be_read_when_it_has_come() {
        for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
            let (mut flow, mut out, mut put) = (Flow::new(coding).unwrap(), Vec::new(), Vec::new());
            for number in 0..50 {
                let piece = format!("{{\"number\":{number}}}\n");
                put.extend_from_slice(piece.as_bytes());
                out.extend(flow.push(piece.as_bytes()).unwrap());
                assert_eq!(readable(coding, &out), put, "{coding:?}");
            }
            out.extend(flow.finish().unwrap());
            assert_eq!(coding.decode(&out, put.len()).unwrap(), put, "{coding:?}");
        }
    }
}
