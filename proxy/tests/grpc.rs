//! Clients that speak gRPC and gRPC-Web, through the real gateway.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_types)]

#[path = "grpc/setup.rs"]
mod setup;

#[path = "grpc/compression.rs"]
mod compression;
#[path = "grpc/connect.rs"]
mod connect;
#[path = "grpc/duplex.rs"]
mod duplex;
#[path = "grpc/failures.rs"]
mod failures;
#[path = "grpc/metadata.rs"]
mod metadata;
#[path = "grpc/native.rs"]
mod native;
#[path = "grpc/web.rs"]
mod web;
