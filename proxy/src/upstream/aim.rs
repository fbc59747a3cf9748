//! What a request wants of the endpoints of a cluster: always the same one, or only some of them.

use std::sync::Arc;

use mesh_config::model::Subset;

/// What a request wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct Aim<'a> {
    /// The hash of what it is sticky by, where its route has that and it carries it.
    pub key: Option<u64>,
    /// The endpoints that its route asks, as the cluster knows them: see `Cluster::subset`.
    pub subset: Option<&'a Arc<Subset>>,
}
