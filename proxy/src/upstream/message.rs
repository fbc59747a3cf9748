//! The one message of a unary response: a flag byte, four bytes of length, the bytes themselves, see
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>. Chunks come as the network cut them. Refused: compression that was not negotiated, a second
//! message, more bytes than are accepted (before they are read).

use bytes::{Bytes, BytesMut};

use super::error::CallError;

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
    message: BytesMut,
}

// === impl Assembly ===

impl Assembly {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            prefix: [0; PREFIX],
            prefixed: 0,
            size: 0,
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

    /// The message without its prefix; `None` if there was none.
    pub(crate) fn finish(self) -> Result<Option<Bytes>, CallError> {
        match self.prefixed {
            0 => Ok(None),
            PREFIX if self.message.len() == self.size => Ok(Some(self.message.freeze())),
            _ => Err(CallError::Malformed("the message is cut short")),
        }
    }

    /// As soon as there is anything to check.
    fn check_prefix(&mut self) -> Result<(), CallError> {
        let [flag, length @ ..] = self.prefix;
        match flag {
            _ if self.prefixed == 0 => return Ok(()),
            0 => {}
            1 => {
                return Err(CallError::Malformed(
                    "a compressed message, though compression was not negotiated",
                ));
            }
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
        assembly.finish()
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
                "a compressed message, though compression was not negotiated",
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
        fn no_bytes_panic(chunks in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..9), 0..6)) {
            let chunks: Vec<_> = chunks.iter().map(Vec::as_slice).collect();
            if let Ok(Some(message)) = assemble(&chunks, 16) {
                prop_assert!(message.len() <= 16);
            }
        }
    }
}
