//! JSON text itself, without anything of protobuf: reading with positions, numbers, strings and their escapes.
//!
//! Spec: RFC 8259

pub(crate) mod escape;
pub(crate) mod number;
pub(crate) mod reader;
