//! Where the transcoder learns the services from. A file is read when the configuration is, so that a version
//! is one text with one content: what its bytes mean is the transcoder's business. What is learnt at run time is part
//! of a version too, as far as it is known.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Timeout;
use crate::learnt::Origin;
use crate::positions::Positions;

/// One source of descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DescriptorSource {
    /// Counter and analytics, compiled into the program.
    Builtin,
    /// A serialized `FileDescriptorSet` with its imports.
    File(DescriptorFile),
    /// A set that is asked for while the gateway runs.
    Learnt(LearntDescriptors),
    /// A `google.api.Service`, whose rules take the place of annotations.
    ServiceConfig(ServiceConfig),
}

/// What becomes of descriptors that break what is in force for its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BreakingChanges {
    /// They are applied, and said.
    #[default]
    Warn,
    /// They are refused.
    Refuse,
    /// They are applied.
    Allow,
}

/// A descriptor file with what was in it when the configuration was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescriptorFile {
    pub(crate) path: PathBuf,
    pub(crate) content: Arc<[u8]>,
}

/// A service configuration file as it was when the configuration was read. What its rules mean is the transcoder's business.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    pub(crate) path: PathBuf,
    pub(crate) content: Arc<[u8]>,
    /// What it says.
    pub value: serde_json::Value,
    /// Its lines, for problems found by those who read its rules.
    pub positions: Positions,
}

/// The same text of the same file says the same.
impl PartialEq for ServiceConfig {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, &self.content) == (&other.path, &other.content)
    }
}

impl Eq for ServiceConfig {}

impl ServiceConfig {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Descriptors that are asked for while the gateway runs, and what is known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearntDescriptors {
    /// Who is asked.
    pub origin: Origin,
    /// How often a cluster is asked again; Consul is not asked again, but waited for.
    pub interval: Timeout,
    /// What is known: a serialized `FileDescriptorSet`.
    pub content: Option<Arc<[u8]>>,
}

impl LearntDescriptors {
    /// How often a cluster is asked where the configuration does not say.
    pub const DEFAULT_INTERVAL: Timeout = Timeout::from_secs::<5>();
}

impl DescriptorSource {
    /// The descriptors that the configuration brings; none of what is built in, of what is not known yet, and of rules alone.
    #[must_use]
    pub fn content(&self) -> Option<&[u8]> {
        match self {
            Self::Builtin | Self::ServiceConfig(_) => None,
            Self::File(file) => Some(file.content()),
            Self::Learnt(learnt) => learnt.content.as_deref(),
        }
    }

    /// What is asked for at run time.
    #[must_use]
    pub fn learnt(&self) -> Option<&LearntDescriptors> {
        match self {
            Self::Learnt(learnt) => Some(learnt),
            Self::Builtin | Self::File(_) | Self::ServiceConfig(_) => None,
        }
    }

    /// What is a file of rules.
    #[must_use]
    pub fn service_config(&self) -> Option<&ServiceConfig> {
        match self {
            Self::ServiceConfig(config) => Some(config),
            Self::Builtin | Self::File(_) | Self::Learnt(_) => None,
        }
    }
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
