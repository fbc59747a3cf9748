//! Schemas for tests: from proto source, or the mesh's own services.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use protox::file::{
    ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver,
};

use crate::schema::Schema;

/// Counter and analytics, as they are compiled in.
pub(crate) const BUILTIN: &[u8] = include_bytes!("../../proto/src/generated/descriptor_set.bin");

pub(crate) fn builtin() -> Arc<Schema> {
    Arc::new(Schema::from_descriptor_sets([BUILTIN]).unwrap())
}

struct Source(String);

impl FileResolver for Source {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name != "test.proto" {
            return Err(protox::Error::file_not_found(name));
        }
        File::from_source(name, &self.0)
    }
}

/// The descriptor set of a proto3 file; `google.api.http` is imported.
pub(crate) fn descriptors(source: &str) -> Vec<u8> {
    let header = "syntax = \"proto3\"; package test; import \"google/api/annotations.proto\";\n";
    let mut resolver = ChainFileResolver::new();
    resolver.add(Source(format!("{header}{source}")));
    let protos = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/proto");
    resolver.add(IncludeFileResolver::new(protos.into()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    compiler.open_file("test.proto").unwrap();
    compiler.encode_file_descriptor_set()
}

pub(crate) fn schema(source: &str) -> Arc<Schema> {
    Arc::new(Schema::from_descriptor_sets([descriptors(source).as_slice()]).unwrap())
}
