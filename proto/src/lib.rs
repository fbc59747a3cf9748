//! The mesh's gRPC contract: messages, services and their descriptor set.
