//! The chunked transfer coding (RFC 9112 section 7.1), decoded in place.
//!
//! Strict: exact CRLFs, sizes of at most eight hex digits, extensions and trailers bounded and
//! dropped. Everything given is consumed, so that no piece is ever looked at twice.

use super::refusal::Refusal;

/// Extensions and trailers of a whole body may take this many bytes.
const OVERHEAD: usize = 16 * 1024;

/// A decoder, between two pieces of a body.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// Of the chunk's data, what is still to come.
    left: usize,
    /// Bytes of extensions and trailers so far.
    overhead: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a size, with its number of digits.
    Size(u8),
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line or the last CRLF.
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastLf,
    Done,
}

/// How far one piece went.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Where decoded data ends now.
    pub(super) written: usize,
    /// Where the undecoded bytes start; less than the whole only when done.
    pub(super) read: usize,
    pub(super) done: bool,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self {
            state: State::Size(0),
            left: 0,
            overhead: 0,
        }
    }

    /// Decodes `buffer[read..]` to `buffer[written..]`. Stops with an error when the data, which
    /// starts at `start`, exceeds `max_body`.
    pub(super) fn decode(
        &mut self,
        buffer: &mut [u8],
        start: usize,
        written: usize,
        read: usize,
        max_body: usize,
    ) -> Result<Progress, Refusal> {
        let (mut written, mut read) = (written, read);
        while read < buffer.len() && self.state != State::Done {
            if self.state == State::Data {
                let length = self.left.min(buffer.len() - read);
                buffer.copy_within(read..read + length, written);
                written += length;
                read += length;
                self.left -= length;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.state = self.step(buffer[read])?;
            read += 1;
            if self.state == State::Data && self.left > max_body.saturating_sub(written - start) {
                return Err(Refusal::BodyTooLarge);
            }
        }
        Ok(Progress {
            written,
            read,
            done: self.state == State::Done,
        })
    }

    fn step(&mut self, byte: u8) -> Result<State, Refusal> {
        const MALFORMED: Refusal = Refusal::BadRequest("the chunked body is malformed");
        Ok(match (self.state, byte) {
            (State::Size(digits @ 0..8), _) if byte.is_ascii_hexdigit() => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                self.left = self.left * 16 + digit as usize;
                State::Size(digits + 1)
            }
            (State::Size(1..), b';') => State::Extension,
            (State::Size(1..) | State::Extension, b'\r') => State::SizeEnd,
            (State::SizeEnd, b'\n') if self.left == 0 => State::TrailerStart,
            (State::SizeEnd, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size(0),
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::LastLf, b'\n') => State::Done,
            (State::TrailerStart, b' ' | b'\t' | b':') => return Err(MALFORMED),
            (State::Trailer, b'\r') => State::TrailerEnd,
            (State::TrailerEnd, b'\n') => State::TrailerStart,
            (State::Extension, _) if is_text(byte) => self.counted(State::Extension)?,
            (State::TrailerStart | State::Trailer, _) if is_text(byte) => {
                self.counted(State::Trailer)?
            }
            _ => return Err(MALFORMED),
        })
    }

    fn counted(&mut self, next: State) -> Result<State, Refusal> {
        self.overhead += 1;
        match self.overhead > OVERHEAD {
            true => Err(Refusal::HeaderTooLarge),
            false => Ok(next),
        }
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

#[cfg(test)]
mod tests;
