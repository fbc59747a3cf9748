//! How far something is that takes long: one line on a terminal, nothing elsewhere.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_millis(100);
const WIDTH: u64 = 30;

/// A bar. It goes away when dropped.
pub(super) struct Progress {
    what: &'static str,
    total: Option<u64>,
    done: u64,
    begun: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// `total` may be a guess.
    pub(super) fn new(what: &'static str, total: Option<u64>) -> Self {
        Self {
            what,
            total: total.filter(|total| *total > 0),
            done: 0,
            begun: Instant::now(),
            shown: None,
            terminal: stderr().is_terminal(),
        }
    }

    pub(super) fn add(&mut self, done: u64) {
        self.done += done;
        let due = self.shown.is_none_or(|shown| shown.elapsed() >= INTERVAL);
        if self.terminal && due {
            self.shown = Some(Instant::now());
            // A terminal that is gone is no reason to stop.
            let _ = write!(stderr(), "\r\x1b[K{}", self.line());
        }
    }

    fn line(&self) -> String {
        let Self {
            what, total, done, ..
        } = self;
        let Some(total) = total.map(|total| total.max(*done)) else {
            return format!("{what}: {done}");
        };
        let filled = done * WIDTH / total;
        let bar: String = (0..WIDTH)
            .map(|at| if at < filled { '#' } else { '-' })
            .collect();
        let left =
            self.begun.elapsed().as_secs_f64() * ((total - done) as f64) / (*done).max(1) as f64;
        format!(
            "{what} [{bar}] {:3}%  {done} of {total}, {left:.0} s left",
            done * 100 / total
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_tells_how_far_it_is_and_how_long_it_takes() {
        let mut progress = Progress::new("counts", Some(200));
        progress.terminal = false;
        tokio::time::advance(Duration::from_secs(10)).await;
        progress.add(50);
        assert_eq!(
            progress.line(),
            "counts [#######-----------------------]  25%  50 of 200, 30 s left"
        );
        progress.add(500);
        assert!(
            progress.line().contains("100%  550 of 550, 0 s left"),
            "the total was a guess"
        );
    }
}
