//! Test protos compiled when the test runs, for the codec and for its oracle.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test crate uses its part")]

pub(crate) mod random;

use std::sync::{Arc, LazyLock};

use prost_reflect::DescriptorPool;
use transcode::{Codec, JsonOptions, Schema};

/// The descriptor set of every proto in `tests/protos`.
pub(crate) static DESCRIPTORS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protos");
    let mut compiler = protox::Compiler::new([directory]).expect("the directory is there");
    compiler.include_imports(true).include_source_info(true);
    compiler
        .open_files(["everything.proto", "legacy.proto", "counter.proto"])
        .expect("the protos compile");
    compiler.encode_file_descriptor_set()
});

/// The same for the oracle.
pub(crate) static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTORS.as_slice()).expect("the oracle reads the descriptors")
});

pub(crate) static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    Arc::new(Schema::from_descriptor_sets([DESCRIPTORS.as_slice()]).expect("the schema is built"))
});

pub(crate) fn codec(options: JsonOptions) -> Codec {
    Codec::new(SCHEMA.clone(), options)
}

/// JSON to wire.
pub(crate) fn encode(options: JsonOptions, message: &str, json: &str) -> Result<Vec<u8>, String> {
    let mut wire = Vec::new();
    let message = SCHEMA.message(message).expect("the message is there");
    codec(options)
        .encode(message, json.as_bytes(), &mut wire)
        .map_err(|error| error.to_string())?;
    Ok(wire)
}

/// Wire to JSON.
pub(crate) fn decode(options: JsonOptions, message: &str, wire: &[u8]) -> Result<String, String> {
    let mut json = Vec::new();
    let message = SCHEMA.message(message).expect("the message is there");
    codec(options)
        .decode(message, wire, &mut json)
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8(json).expect("JSON is UTF-8"))
}
