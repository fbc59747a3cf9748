//! Keeps checks from beginning all at once: only so many begin in any moment, and the others wait for the next. What is
//! late makes later what follows, so that a stall does not end in a burst.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// So many checks may begin in a moment, over all endpoints.
const AT_ONCE: u32 = 5;
/// How long a moment is.
const MOMENT: Duration = Duration::from_millis(5);

/// The current moment: when it began, and how many have begun in it.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Option<(Instant, u32)>>);

// === impl Pace ===

impl Pace {
    /// Waits for one's turn, first come first served.
    pub(crate) async fn turn(&self) {
        let mut moment = self.0.lock().await;
        let (began, begun) = moment.unwrap_or((Instant::now(), 0));
        let end = began + MOMENT;
        if begun < AT_ONCE && Instant::now() < end {
            *moment = Some((began, begun + 1));
            return;
        }
        sleep_until(end).await;
        *moment = Some((Instant::now(), 1));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thousand_at_once_take_a_second_and_a_few_no_time() {
        let (pace, began) = (Arc::new(Pace::default()), Instant::now());
        for _ in 0..AT_ONCE {
            pace.turn().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        let turns = (0..1000).map(|_| {
            let pace = Arc::clone(&pace);
            tokio::spawn(async move { pace.turn().await })
        });
        let turns: Vec<_> = turns.collect();
        for turn in turns {
            turn.await.unwrap_or_default();
        }
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        tokio::time::advance(MOMENT * 3).await;
        let again = Instant::now();
        pace.turn().await;
        assert_eq!(again.elapsed(), Duration::ZERO);
    }
}
