//! What callers ask of a cluster: calls, streams and requests, each within its limits and by its policies. Messages of
//! gRPC are encoded here where the cluster is to get them so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use mesh_config::model::{self as config, MessageCoding};

use super::Cluster;
use crate::compression::Coding;
use crate::upstream::attempts;
use crate::upstream::call::Call;
use crate::upstream::error::CallError;
use crate::upstream::http::{HttpCall, HttpReply};
use crate::upstream::reply::Reply;
use crate::upstream::stream::{self, Opened, StreamCall};

const PLAIN: u8 = 0;
const GZIP: u8 = 1;
const ZSTD: u8 = 2;

/// What messages are encoded in: a number, so that a call can look at it for next to nothing.
#[derive(Debug)]
pub(super) struct SentIn(AtomicU8);

impl SentIn {
    pub(super) fn new(config: &config::Cluster) -> Self {
        let sent_in = Self(AtomicU8::new(PLAIN));
        sent_in.set(config);
        sent_in
    }

    pub(super) fn set(&self, config: &config::Cluster) {
        let number = match config.compression {
            None => PLAIN,
            Some(MessageCoding::Gzip) => GZIP,
            Some(MessageCoding::Zstd) => ZSTD,
        };
        self.0.store(number, Relaxed);
    }

    fn get(&self) -> Option<Coding> {
        match self.0.load(Relaxed) {
            GZIP => Some(Coding::Gzip),
            ZSTD => Some(Coding::Zstd),
            _ => None,
        }
    }
}

impl Cluster {
    /// Calls a method of one of the backends. Dropping the future resets the stream.
    ///
    /// # Errors
    /// If no backend has answered by the rules of gRPC. A gRPC status is a reply.
    pub async fn unary(
        self: &Arc<Self>,
        worker: usize,
        mut call: Call<'_>,
    ) -> Result<Reply, CallError> {
        if let Some(coding) = self.coding.get() {
            call.compress(coding);
        }
        attempts::run(self, worker, &call).await
    }

    /// Opens a stream to one of the backends. Dropping the future, or the stream, cancels it.
    ///
    /// # Errors
    /// If no backend has answered by the rules of gRPC. A gRPC status is a reply.
    pub async fn stream(
        self: &Arc<Self>,
        worker: usize,
        mut call: StreamCall<'_>,
    ) -> Result<Opened, CallError> {
        if let Some(coding) = self.coding.get() {
            call.compress(coding);
        }
        stream::open(self, worker, &call).await
    }

    /// Asks one of the backends, which speak HTTP. Dropping the future gives the request up.
    ///
    /// # Errors
    /// If no backend has answered in HTTP. Any status is a reply.
    pub async fn http(
        self: &Arc<Self>,
        worker: usize,
        call: HttpCall<'_>,
    ) -> Result<HttpReply, CallError> {
        attempts::run(self, worker, &call).await
    }
}
