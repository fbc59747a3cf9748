//! Regenerates proto/src/generated from the .proto files.
fn main() {}
