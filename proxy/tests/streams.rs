//! Methods that stream, over HTTP, through the real gateway.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_types)]

#[path = "streams/setup.rs"]
mod setup;

#[path = "streams/downstream.rs"]
mod downstream;
#[path = "streams/endings.rs"]
mod endings;
#[path = "streams/files.rs"]
mod files;
#[path = "streams/upstream.rs"]
mod upstream;
#[path = "streams/websocket.rs"]
mod websocket;
