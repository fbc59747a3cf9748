//! A client's side of HTTP/2, as much as gRPC calls need and no more, made for many small calls on one
//! connection: whole requests are encoded into one buffer, answers are put together as their frames come,
//! and nothing is copied or allocated that a call does not keep.

mod decoder;
mod encoder;
mod exchange;
mod frame;
mod huffman;
mod machine;
mod pieces;
mod receive;
mod send;
mod static_table;

pub(crate) use encoder::RequestHead;
pub(crate) use machine::{Core, Failure};
pub(crate) use pieces::Event;

#[cfg(test)]
mod tests;
