//! HTTP/JSON to gRPC bytes and back: pure, compiled from descriptors.
