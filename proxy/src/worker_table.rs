//! The live routing table, published to every worker by itself.
//!
//! A request takes its table once and keeps it to its end. Each worker takes it through an `Arc` of its own,
//! so that the reference count that requests touch is on a cache line that no other core writes.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::route_table::RouteTable;
use crate::system::System;

/// A worker's own handle of the live table.
#[derive(Debug)]
pub struct WorkerTable {
    table: Arc<RouteTable>,
    /// The pages that the gateway answers itself.
    pub system: Arc<System>,
}

/// The live table of all workers. One writer: the reload.
#[derive(Debug)]
pub struct Published {
    workers: Box<[ArcSwap<WorkerTable>]>,
    system: Arc<System>,
}

impl Published {
    /// The first table, for that many workers.
    pub fn new(workers: usize, table: Arc<RouteTable>, system: Arc<System>) -> Self {
        let handle = |_| {
            ArcSwap::from_pointee(WorkerTable {
                table: table.clone(),
                system: system.clone(),
            })
        };
        Self {
            workers: (0..workers.max(1)).map(handle).collect(),
            system,
        }
    }

    /// The live table, as worker `worker` sees it.
    pub fn load(&self, worker: usize) -> Arc<WorkerTable> {
        self.workers[worker % self.workers.len()].load_full()
    }

    /// Makes a table the live one; requests that are under way keep theirs.
    pub fn publish(&self, table: Arc<RouteTable>) {
        for worker in &self.workers {
            worker.store(Arc::new(WorkerTable {
                table: table.clone(),
                system: self.system.clone(),
            }));
        }
    }
}

impl Deref for WorkerTable {
    type Target = RouteTable;

    fn deref(&self) -> &RouteTable {
        &self.table
    }
}
