//! A bound on what is under way at once, with a bounded queue before it.
//!
//! `requests` hold a [`Permit`]; up to `pending` more wait for one, first come first served, until their own
//! deadline; the rest are refused at once, because a queue that only grows serves nobody. Bounds may change
//! while permits are out: a lower one holds from the moment enough of them are back.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// How much may be under way, and how much may wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Permits that may be out at once.
    pub requests: usize,
    /// Callers that may wait for one.
    pub pending: usize,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// All permits are out and the queue is full.
    #[error("too many requests in flight and waiting")]
    Full,
    /// The deadline passed in the queue.
    #[error("the deadline passed while waiting for a free slot")]
    TooLate,
}

/// Gives out permits.
#[derive(Debug)]
pub struct Limiter {
    free: Semaphore,
    /// Permits to swallow on their return, after the bound has been lowered.
    surplus: AtomicUsize,
    requests: AtomicUsize,
    pending: AtomicUsize,
    waiting: AtomicUsize,
}

/// The right to be under way, given back on drop. `L` is how the limiter is held: borrowed, or shared by those
/// who keep the permit for longer than they can borrow.
#[derive(Debug)]
pub struct Permit<L: Deref<Target = Limiter>> {
    limiter: L,
}

/// A place in the queue, given back on drop.
struct Place<'a>(&'a AtomicUsize);

// === impl Limiter ===

impl Limiter {
    /// A limiter with all permits free.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let requests = bounds.requests.min(Semaphore::MAX_PERMITS);
        Self {
            free: Semaphore::new(requests),
            surplus: AtomicUsize::new(0),
            requests: AtomicUsize::new(requests),
            pending: AtomicUsize::new(bounds.pending),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A permit now, or after waiting in the queue.
    ///
    /// # Errors
    /// `Full` at once, or `TooLate` at the deadline.
    pub async fn acquire<L>(limiter: L, deadline: Instant) -> Result<Permit<L>, Refused>
    where
        L: Deref<Target = Self>,
    {
        if !limiter.try_take() {
            limiter.wait(deadline).await?;
        }
        Ok(Permit { limiter })
    }

    /// A permit if one is free now.
    pub fn try_acquire<L>(limiter: L) -> Option<Permit<L>>
    where
        L: Deref<Target = Self>,
    {
        limiter.try_take().then(|| Permit { limiter })
    }

    fn try_take(&self) -> bool {
        self.free.try_acquire().map(SemaphorePermit::forget).is_ok()
    }

    async fn wait(&self, deadline: Instant) -> Result<(), Refused> {
        let _place = Place::take(&self.waiting, self.pending.load(Relaxed)).ok_or(Refused::Full)?;
        match timeout_at(deadline, self.free.acquire()).await {
            Ok(Ok(free)) => {
                free.forget();
                Ok(())
            }
            Ok(Err(_)) => Err(Refused::Full),
            Err(_) => Err(Refused::TooLate),
        }
    }

    /// Permits that are out.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let bound = self.requests.load(Relaxed) + self.surplus.load(Relaxed);
        bound.saturating_sub(self.free.available_permits())
    }

    /// Callers in the queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Other bounds from now on. One caller at a time: bounds have one writer.
    pub fn set(&self, bounds: Bounds) {
        let wanted = bounds.requests.min(Semaphore::MAX_PERMITS);
        let before = self.requests.swap(wanted, AcqRel);
        self.pending.store(bounds.pending, Relaxed);
        if wanted > before {
            let more = wanted - before;
            let kept = take_up_to(&self.surplus, more);
            self.free.add_permits(more - kept);
        } else {
            let fewer = before - wanted;
            let forgotten = self.free.forget_permits(fewer);
            self.surplus.fetch_add(fewer - forgotten, AcqRel);
        }
    }
}

/// Takes at most `wanted` from `cell`; returns how many it took.
fn take_up_to(cell: &AtomicUsize, wanted: usize) -> usize {
    let mut seen = cell.load(Acquire);
    loop {
        let taken = seen.min(wanted);
        match cell.compare_exchange_weak(seen, seen - taken, AcqRel, Acquire) {
            Ok(_) => return taken,
            Err(now) => seen = now,
        }
    }
}

// === impl Permit ===

impl<L: Deref<Target = Limiter>> Drop for Permit<L> {
    fn drop(&mut self) {
        let lowered = self.limiter.surplus.load(Relaxed) > 0;
        if !(lowered && take_up_to(&self.limiter.surplus, 1) == 1) {
            self.limiter.free.add_permits(1);
        }
    }
}

// === impl Place ===

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let free = |now| if now < most { Some(now + 1) } else { None };
        waiting
            .fetch_update(AcqRel, Acquire, free)
            .ok()
            .map(|_| Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests;
