//! The mesh's gRPC contract: messages, services and their descriptor set.
//!
//! The sources are `proto/proto/**/*.proto`. What is under `src/generated` is written by `cargo run -p proto-codegen`
//! and checked in, so that a build needs no protoc; `-- --check` says whether it is fresh.

mod codec;

use prost::Message;
use prost_types::FileDescriptorSet;

/// The counter service: package `counter`.
pub mod counter {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::unwrap_used,
        clippy::too_many_lines
    )]
    include!("generated/counter.rs");
}

/// The analytics service: package `analytics`.
pub mod analytics {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::unwrap_used,
        clippy::too_many_lines
    )]
    include!("generated/analytics.rs");
}

/// What gRPC errors carry in `grpc-status-details-bin`: package `google.rpc`.
pub mod rpc {
    #![allow(
        missing_docs,
        unreachable_pub,
        rustdoc::all,
        clippy::all,
        clippy::pedantic
    )]
    include!("generated/google.rpc.rs");
}

/// A serialised `google.protobuf.FileDescriptorSet`: both services, every import, annotations and comments.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor_set.bin");

/// A serialised `google.protobuf.FileDescriptorSet` of the types that travel in `grpc-status-details-bin`
/// (`google/rpc/*.proto`) and of what they import, for whoever has descriptors of services only.
pub fn error_details() -> Vec<u8> {
    const IMPORTED: [&str; 2] = [
        "google/protobuf/any.proto",
        "google/protobuf/duration.proto",
    ];
    let mut set = FileDescriptorSet::decode(DESCRIPTOR_SET).unwrap_or_default();
    set.file.retain(|file| {
        let name = file.name();
        name.starts_with("google/rpc/") || IMPORTED.contains(&name)
    });
    set.encode_to_vec()
}

/// The field number of the method option `highpress.dedupe`, a string: the metadata key by which the service
/// recognises a repeated call.
pub const DEDUPE_OPTION: u32 = 50842;

/// The metadata key of increments, as their `highpress.dedupe` option says it.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

#[cfg(test)]
mod tests;
