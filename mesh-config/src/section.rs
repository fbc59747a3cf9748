//! One file for each section of `mesh.yaml`: it reads the section into the model, reports all that is wrong with
//! it by itself, and leaves what concerns other sections to [`crate::check`].

pub(crate) mod balancing;
pub(crate) mod cluster;
pub(crate) mod consul;
pub(crate) mod cors;
pub(crate) mod descriptor;
pub(crate) mod destination;
pub(crate) mod dns;
pub(crate) mod endpoint;
pub(crate) mod field;
pub(crate) mod health_check;
pub(crate) mod listener;
pub(crate) mod matching;
pub(crate) mod overload;
pub(crate) mod process;
pub(crate) mod profile;
pub(crate) mod rate;
pub(crate) mod resilience;
pub(crate) mod retry;
pub(crate) mod route;
pub(crate) mod shaping;
pub(crate) mod transcode;
