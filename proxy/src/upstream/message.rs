//! Messages as gRPC frames them: a flag byte, four bytes of length, the bytes themselves, see
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>; the one of a unary response, or those of a
//! stream. Chunks come as the network cut them. Refused: compression that nobody has named, a second message
//! where there is one, more bytes than are accepted (before they are read, and before they are decoded).

use bytes::{BufMut, Bytes, BytesMut};

use super::error::CallError;
use crate::compression::{Coding, DecodeError, WORTH};

/// The codings that backends may answer in, for `grpc-accept-encoding`.
pub(crate) const ACCEPTED: &str = "gzip,zstd";

/// Flag and length.
pub(crate) const PREFIX: usize = 5;
/// What a length alone may make us reserve.
const RESERVE: usize = 64 * 1024;

/// Puts the message together.
#[derive(Debug)]
pub(crate) struct Assembly {
    limit: usize,
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are there.
    prefixed: usize,
    /// What the prefix announces.
    size: usize,
    compressed: bool,
    message: BytesMut,
}

/// A message as it came, without its prefix.
#[derive(Debug, Clone)]
pub(crate) struct Framed {
    pub(crate) bytes: Bytes,
    compressed: bool,
    /// How large it may be.
    limit: usize,
}

/// Puts the messages of a stream together, one after the other.
#[derive(Debug)]
pub(crate) struct Deframer {
    current: Assembly,
}

// === impl Deframer ===

impl Deframer {
    /// Each message may have `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            current: Assembly::new(limit),
        }
    }

    /// Takes the next chunk, and gives the messages that are whole with it.
    pub(crate) fn push(
        &mut self,
        mut chunk: &[u8],
        mut take: impl FnMut(Framed),
    ) -> Result<(), CallError> {
        while !chunk.is_empty() {
            let (now, later) = chunk.split_at(chunk.len().min(self.current.missing()));
            self.current.push(now)?;
            chunk = later;
            if self.current.missing() == 0 {
                let next = Assembly::new(self.current.limit);
                let whole = std::mem::replace(&mut self.current, next);
                whole.finish()?.map(&mut take);
            }
        }
        Ok(())
    }

    /// Whether no message has begun that is not whole.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.current.prefixed == 0
    }
}

// === impl Assembly ===

impl Assembly {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            prefix: [0; PREFIX],
            prefixed: 0,
            size: 0,
            compressed: false,
            message: BytesMut::new(),
        }
    }

    /// Takes the next chunk.
    pub(crate) fn push(&mut self, mut chunk: &[u8]) -> Result<(), CallError> {
        if self.prefixed < PREFIX {
            let (start, rest) = chunk.split_at(chunk.len().min(PREFIX - self.prefixed));
            self.prefix[self.prefixed..self.prefixed + start.len()].copy_from_slice(start);
            self.prefixed += start.len();
            chunk = rest;
            self.check_prefix()?;
        }
        if chunk.len() > self.size - self.message.len() {
            return Err(CallError::Malformed("more than one message"));
        }
        self.message.extend_from_slice(chunk);
        Ok(())
    }

    /// Bytes until the prefix, or with it the message, is whole.
    fn missing(&self) -> usize {
        match PREFIX - self.prefixed {
            0 => self.size - self.message.len(),
            missing => missing,
        }
    }

    /// The message; `None` if there was none.
    pub(crate) fn finish(self) -> Result<Option<Framed>, CallError> {
        match self.prefixed {
            0 => Ok(None),
            PREFIX if self.message.len() == self.size => Ok(Some(Framed {
                bytes: self.message.freeze(),
                compressed: self.compressed,
                limit: self.limit,
            })),
            _ => Err(CallError::Malformed("the message is cut short")),
        }
    }

    /// As soon as there is anything to check.
    fn check_prefix(&mut self) -> Result<(), CallError> {
        let [flag, length @ ..] = self.prefix;
        match flag {
            _ if self.prefixed == 0 => return Ok(()),
            0 => {}
            1 => self.compressed = true,
            _ => {
                return Err(CallError::Malformed(
                    "a message flag that is neither 0 nor 1",
                ));
            }
        }
        if self.prefixed == PREFIX {
            self.size = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if self.size > self.limit {
                return Err(CallError::TooLarge {
                    size: self.size,
                    limit: self.limit,
                });
            }
            self.message.reserve(self.size.min(RESERVE));
        }
        Ok(())
    }
}

// === impl Framed ===

impl Framed {
    /// Bytes that are no message by themselves.
    pub(crate) fn piece(bytes: Bytes) -> Self {
        let limit = bytes.len();
        Self {
            bytes,
            compressed: false,
            limit,
        }
    }

    /// The message itself; `coding` is what the answer's head says.
    pub(crate) fn plain(self, coding: Option<Coding>) -> Result<Bytes, CallError> {
        if !self.compressed {
            return Ok(self.bytes);
        }
        let coding = coding.ok_or(CallError::Malformed(
            "a compressed message, in no coding that is known here",
        ))?;
        let decoded = coding.decode(&self.bytes, self.limit);
        decoded.map(Bytes::from).map_err(|why| match why {
            DecodeError::TooLarge(limit) => CallError::TooLarge {
                size: limit + 1,
                limit,
            },
            DecodeError::Broken(..) => {
                CallError::Malformed("a compressed message that cannot be decoded")
            }
        })
    }
}

/// Compresses each of these messages that is worth it, and becomes smaller by it.
pub(crate) fn compressed(messages: &Bytes, coding: Coding) -> Bytes {
    let mut out = BytesMut::with_capacity(messages.len());
    let mut rest = &messages[..];
    while let Some(&[flag, ref length @ ..]) = rest.first_chunk::<PREFIX>() {
        let length = u32::from_be_bytes(*length) as usize;
        let end = rest.len().min(PREFIX + length);
        let (whole, after) = rest.split_at(end);
        let message = &whole[PREFIX..];
        let worth = flag == 0 && message.len() >= WORTH;
        let encoded = worth.then(|| coding.encode(message).ok()).flatten();
        match encoded.filter(|encoded| encoded.len() < message.len()) {
            Some(encoded) => {
                out.put_u8(1);
                // It is smaller than what fitted.
                out.put_u32(encoded.len() as u32);
                out.extend_from_slice(&encoded);
            }
            None => out.extend_from_slice(whole),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.freeze()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    fn assemble(chunks: &[&[u8]], limit: usize) -> Result<Option<Bytes>, CallError> {
        let mut assembly = Assembly::new(limit);
        for chunk in chunks {
            assembly.push(chunk)?;
        }
        let message = assembly.finish()?;
        message.map(|message| message.plain(None)).transpose()
    }

    #[test]
    fn what_is_not_one_message() {
        assert_eq!(assemble(&[], 9).unwrap(), None);
        assert_eq!(assemble(&[&framed(b"")], 9).unwrap().unwrap(), "");
        let two = [framed(b"a"), framed(b"")].concat();
        for (bytes, why) in [
            (&two[..], "more than one message"),
            (&framed(b"abc")[..7], "the message is cut short"),
            (&[0, 0][..], "the message is cut short"),
            (
                &[1, 0, 0, 0, 0][..],
                "a compressed message, in no coding that is known here",
            ),
            (&[7][..], "a message flag that is neither 0 nor 1"),
        ] {
            let error = assemble(&[bytes], 9).unwrap_err();
            assert!(
                matches!(error, CallError::Malformed(said) if said == why),
                "{bytes:?}: {error}"
            );
        }
    }

    #[test]
    fn size_is_refused_before_it_arrives() {
        let error = assemble(&[&framed(&[0; 10])[..PREFIX]], 9).unwrap_err();
        assert!(
            matches!(error, CallError::TooLarge { size: 10, limit: 9 }),
            "{error}"
        );
        assert!(assemble(&[&framed(&[0; 9])], 9).is_ok());
    }

    #[test]
    fn compressed_messages_come_back_within_the_limit() {
        let (short, long) = (framed(b"short"), framed(&[b'x'; 5000]));
        for coding in [Coding::Gzip, Coding::Zstd] {
            let sent = compressed(&[&short[..], &long, &short].concat().into(), coding);
            assert!(sent.starts_with(&short) && sent.ends_with(&short) && sent.len() < 500);
            for (limit, fits) in [(5000, true), (4999, false)] {
                let (mut deframer, mut whole) = (Deframer::new(limit), Vec::new());
                deframer
                    .push(&sent, |message| whole.push(message.plain(Some(coding))))
                    .unwrap();
                match &whole[..] {
                    [Ok(first), Ok(second), Ok(_)] if fits => {
                        assert_eq!((&first[..], second.len()), (&b"short"[..], 5000));
                    }
                    [Ok(_), Err(CallError::TooLarge { .. }), Ok(_)] if !fits => {}
                    other => panic!("{coding:?}, {limit}: {other:?}"),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(message in proptest::collection::vec(any::<u8>(), 0..300), cuts in proptest::collection::vec(0usize..310, 0..8)) {
            let bytes = framed(&message);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&assemble(&chunks, 300).unwrap().unwrap()[..], &message[..]);
        }

        #[test]
        fn messages_of_a_stream_come_one_by_one(messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..9), cut in 1usize..50) {
            let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
            let (mut deframer, mut whole) = (Deframer::new(40), Vec::new());
            for chunk in bytes.chunks(cut) {
                deframer.push(chunk, |message| whole.push(message.bytes.to_vec())).unwrap();
            }
            prop_assert_eq!(whole, messages);
            prop_assert!(deframer.is_between_messages());
        }

        #[test]
        fn no_bytes_panic(chunks in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..9), 0..6)) {
            let chunks: Vec<_> = chunks.iter().map(Vec::as_slice).collect();
            if let Ok(Some(message)) = assemble(&chunks, 16) {
                prop_assert!(message.len() <= 16);
            }
        }
    }
}
