//! Heads of HTTP/1.1: the same comes of one however its bytes come, and a path that is taken is one.

#![no_main]

use fuzz::edge::read;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [size, bytes @ ..] = data else { return };
    let (whole, pieces) = (read(bytes, usize::MAX), read(bytes, usize::from(*size)));
    if whole.is_taken() || pieces.is_taken() {
        assert_eq!(whole, pieces);
        assert!(
            whole.path().starts_with('/') || whole.path() == "*",
            "{:?}",
            whole.path()
        );
    }
});
