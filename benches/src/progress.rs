//! A progress bar, on a terminal only.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How far something is. Without a terminal it says nothing.
#[derive(Debug, Clone)]
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// Of something with so many steps.
    pub fn new(what: &str, steps: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Progress(None);
        }
        let bar = ProgressBar::new(steps).with_message(what.to_owned());
        let style = ProgressStyle::with_template("{msg} [{bar:40}] {percent} %, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress(Some(bar))
    }

    /// Of something that takes a known time, in milliseconds.
    pub fn of_time(what: &str, length: Duration) -> Self {
        Self::new(what, length.as_millis() as u64)
    }

    /// So many steps are done.
    pub fn set(&self, done: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
