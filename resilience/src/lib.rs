//! Resilience policies as state machines under tokio time.
