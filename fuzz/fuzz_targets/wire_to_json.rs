//! Answers of backends: what is protobuf becomes JSON, which is read back as the same message.

#![no_main]

use fuzz::Case;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(case) = Case::of(data) {
        case.comes_back(case.rest);
    }
});
