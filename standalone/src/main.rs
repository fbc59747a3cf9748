//! The whole mesh in one process.
fn main() {}
