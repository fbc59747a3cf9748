//! The program `highpress-counter` as a black box, over gRPC and its admin port, with each of its stores.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod grpc {
    mod batches;
    mod consul;
    mod contract;
    mod crash;
    mod disk_full;
    mod events;
    mod idempotency;
    mod idempotency_redis;
    mod kafka_away;
    mod program;
    mod redis_away;
    mod redis_forms;
    mod setup;
    mod tools;
}
