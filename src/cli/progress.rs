//! A line on standard error that tells what is waited for and how long, on terminals only.

use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::cli::terminal::{harmless, in_words};

/// Interval in which progress is drawn.
const TICK: Duration = Duration::from_millis(200);
/// Time before progress is shown, so that quick answers leave no trace.
const PATIENCE: Duration = Duration::from_millis(600);

/// A line on standard error that tells how long something takes and is taken away at its end. Only on a terminal.
pub(crate) struct Progress {
    is_shown: bool,
}

impl Progress {
    /// Progress on standard error, shown if that is a terminal.
    pub(crate) fn new() -> Self {
        Self { is_shown: io::stderr().is_terminal() }
    }

    /// Waits, and shows what `label` makes of the time that has passed.
    pub(crate) async fn during<F: Future>(
        &self,
        at_line_start: bool,
        label: impl Fn(Duration) -> String,
        wait: F,
    ) -> F::Output {
        let mut wait = std::pin::pin!(wait);
        if !self.is_shown || !at_line_start {
            return wait.await;
        }
        let began = Instant::now();
        let mut drawn = Drawn(false);
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                biased;
                output = &mut wait => return output,
                _ = ticks.tick() => {
                    let passed = began.elapsed();
                    if passed >= PATIENCE {
                        drawn.draw(&format!("{}, {}", label(passed), in_words(passed)));
                    }
                }
            }
        }
    }
}

/// A line that is on the screen. Dropping it takes it away.
struct Drawn(bool);

impl Drawn {
    fn draw(&mut self, text: &str) {
        self.0 = true;
        // `ESC [ K` clears to the end of the line. Not by way of anstream: without colours it would take that out.
        let _ = write!(io::stderr(), "\r{}\u{1b}[K", harmless(text));
        let _ = io::stderr().flush();
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        if self.0 {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
            let _ = io::stderr().flush();
        }
    }
}
