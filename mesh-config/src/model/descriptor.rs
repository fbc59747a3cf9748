//! Where the transcoder learns the services from. A file is read when the configuration is, so that a version
//! is one text with one content: what its bytes mean is the transcoder's business.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One source of descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DescriptorSource {
    /// Counter and analytics, compiled into the program.
    Builtin,
    /// A serialized `FileDescriptorSet` with its imports.
    File(DescriptorFile),
}

/// A descriptor file with what was in it when the configuration was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescriptorFile {
    pub(crate) path: PathBuf,
    pub(crate) content: Arc<[u8]>,
}

impl DescriptorFile {
    /// Where it is; a relative path of the file has been joined to the directory of the configuration.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }
}
