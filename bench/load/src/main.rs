//! An open-loop and closed-loop HTTP load generator for bench/.
fn main() {}
