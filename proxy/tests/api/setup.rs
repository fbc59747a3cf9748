//! A shop from `shop.proto`, and variations of its text.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use testkit::Program;
use testkit::echo::Echo;
use testkit::mesh::Gateway;
use testkit::program::Ended;

/// The text of `shop.proto`.
pub(super) const SHOP: &str = include_str!("shop.proto");

/// The descriptor set of a text, its imports included.
pub(super) fn descriptors(proto: &str) -> Vec<u8> {
    descriptors_in(tempfile::tempdir().unwrap().path(), proto)
}

/// The same with what else is in a folder.
pub(super) fn descriptors_in(folder: &Path, proto: &str) -> Vec<u8> {
    std::fs::write(folder.join("shop.proto"), proto).unwrap();
    let imports = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/proto");
    let mut compiler = protox::Compiler::new([folder.to_owned(), imports]).unwrap();
    let compiled = compiler
        .include_imports(true)
        .include_source_info(true)
        .open_file("shop.proto");
    compiled.expect("the text compiles");
    // Not by way of prost-types, which would drop the annotations.
    compiler.encode_file_descriptor_set()
}

/// A running shop behind a gateway.
pub(super) struct Shop {
    pub(super) backend: Echo,
    pub(super) gateway: Gateway,
    folder: TempDir,
}

impl Shop {
    /// `options` of `transcode`, and further keys of the top level.
    pub(super) async fn start(options: &str, top: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("shop.binpb");
        std::fs::write(&set, descriptors(SHOP)).unwrap();
        let backend = Echo::start(&descriptors(SHOP)).await;
        let sources = format!("{{ file: {} }}", set.display());
        let text = mesh(&sources, &backend.address.to_string(), options, top);
        Self {
            gateway: Gateway::start(&text).await,
            backend,
            folder,
        }
    }

    /// Replaces the descriptor set; the gateway notices by itself.
    pub(super) fn describe(&self, proto: &str) {
        let new = self.folder.path().join("new.binpb");
        std::fs::write(&new, descriptors(proto)).unwrap();
        std::fs::rename(new, self.folder.path().join("shop.binpb")).unwrap();
    }
}

/// A `mesh.yaml` of the shop.
pub(super) fn mesh(sources: &str, backend: &str, options: &str, top: &str) -> String {
    format!(
        r#"
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
descriptors: [{sources}]
clusters:
  - {{ name: shop, protocol: grpc, endpoints: {{ static: ["{backend}"] }} }}
routes:
  - {{ name: shop, transcode: {{ services: [shop.v1.Shop]{options} }}, to: shop }}
{top}
"#
    )
}

/// Files that commands are about.
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A configuration of the shop with descriptors of their own.
    pub(super) fn shop(&self, name: &str, proto: &str, options: &str) -> PathBuf {
        let set = self.write(&format!("{name}.binpb"), descriptors(proto));
        let sources = format!("{{ file: {} }}", set.display());
        let text = mesh(&sources, "127.0.0.1:1", options, "");
        self.write(&format!("{name}.yaml"), text)
    }
}

/// Runs a command of the gateway.
pub(super) async fn proxy(args: &[&str], files: &[&Path]) -> Ended {
    let program = Program::new("highpress-proxy").args(args);
    let program = files
        .iter()
        .fold(program, |program, file| program.arg(file));
    program.run().await
}
