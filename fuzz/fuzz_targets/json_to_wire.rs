//! JSON of clients: what is taken becomes protobuf, and comes back as the same message.

#![no_main]

use fuzz::Case;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(case) = Case::of(data) else { return };
    if let Some(wire) = case.wire(case.rest) {
        case.comes_back(&wire);
    }
});
