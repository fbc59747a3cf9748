//! One value that many read and one writes: readers get whole versions, and may wait for the next one.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

/// A reader of a value that changes as a whole. Clones read the same value.
#[derive(Debug)]
pub struct Live<T> {
    cell: Arc<ArcSwap<T>>,
    changes: watch::Receiver<()>,
}

/// The only writer of a [`Live`] value: it cannot be cloned.
#[derive(Debug)]
pub struct Publisher<T> {
    cell: Arc<ArcSwap<T>>,
    changes: watch::Sender<()>,
}

impl<T> Live<T> {
    /// A value and its writer.
    #[must_use]
    pub fn new(initial: Arc<T>) -> (Publisher<T>, Self) {
        let cell = Arc::new(ArcSwap::new(initial));
        let (sender, receiver) = watch::channel(());
        let live = Self {
            cell: Arc::clone(&cell),
            changes: receiver,
        };
        (
            Publisher {
                cell,
                changes: sender,
            },
            live,
        )
    }

    /// The value as it is now, to keep.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        self.cell.load_full()
    }

    /// The value as it is now, to look at: cheaper, but not to be held across waits.
    #[must_use]
    pub fn peek(&self) -> Guard<Arc<T>> {
        self.cell.load()
    }

    /// Waits for a value that this reader has not waited for yet, and returns it; `None`: there will be none,
    /// as the writer is gone.
    pub async fn changed(&mut self) -> Option<Arc<T>> {
        self.changes.changed().await.ok()?;
        Some(self.load())
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self {
            cell: Arc::clone(&self.cell),
            changes: self.changes.clone(),
        }
    }
}

impl<T> Publisher<T> {
    /// Makes `value` what readers see from now on.
    pub fn publish(&self, value: Arc<T>) {
        self.cell.store(value);
        self.changes.send_replace(());
    }

    /// The value as it is now.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        self.cell.load_full()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[tokio::test]
    async fn readers_see_whole_versions_and_hear_of_them() {
        let (publisher, mut live) = Live::new(Arc::new(1));
        let other = live.clone();
        publisher.publish(Arc::new(2));
        publisher.publish(Arc::new(3));

        assert_eq!(
            live.changed().await.as_deref(),
            Some(&3),
            "several changes are one"
        );
        assert_eq!((**other.peek(), *publisher.load()), (3, 3));

        drop(publisher);
        assert_eq!(live.changed().await, None, "the writer is gone");
        assert_eq!(*live.load(), 3, "and its last value stays");
    }
}
