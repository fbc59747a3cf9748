//! Pieces of an upload, put together. A single one is not copied.

use bytes::{Bytes, BytesMut};

/// What has been gathered so far.
#[derive(Default)]
pub(super) struct Gathered {
    first: Bytes,
    all: BytesMut,
}

impl Gathered {
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    pub(super) fn add(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.first = piece;
        } else if !piece.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
            self.all.extend_from_slice(&piece);
        }
    }

    pub(super) fn done(self) -> Bytes {
        match self.all.is_empty() {
            true => self.first,
            false => self.all.freeze(),
        }
    }
}
