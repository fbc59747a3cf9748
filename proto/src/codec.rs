//! How messages go onto the wire: prost's way, with buffers that fit small messages.
//!
//! tonic sets 8 KiB aside for each message that is read or written; those of the mesh take some tens of bytes, and a buffer grows
//! when one does not fit.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// Bytes set aside for a message.
const BUFFER: usize = 256;
/// Bytes after which a stream hands on what it has encoded: tonic's default.
const YIELD_THRESHOLD: usize = 32 * 1024;

/// Encodes `T`, decodes `U`.
#[derive(Debug, Clone)]
pub(crate) struct SmallMessages<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallMessages<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallMessages<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, YIELD_THRESHOLD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, YIELD_THRESHOLD))
    }
}
