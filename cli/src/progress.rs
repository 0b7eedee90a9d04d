//! A sign of life while something takes long, on a terminal alone.

use core::time::Duration;
use std::io::{self, IsTerminal};

use indicatif::ProgressBar;

/// Turns until it is dropped, and leaves nothing behind.
pub(crate) struct Spinner(ProgressBar);

impl Spinner {
    pub(crate) fn new(what: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(what);
        // Seen at once, however soon it ends.
        bar.tick();
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
