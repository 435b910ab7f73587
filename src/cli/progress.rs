//! A progress bar on stderr, for people who wait: only on a terminal, only when the work takes more than a second.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);
/// How many rows go by between two updates.
const STRIDE: usize = 1 << 12;

/// The bar. It goes away when dropped.
pub struct Progress {
    shown: Option<Shown>,
}

struct Shown {
    bar: ProgressBar,
    /// Dropping it tells the thread that waits to show the bar that it need not.
    _alive: Sender<()>,
}

impl Progress {
    /// A bar that appears after a second, if stderr is a terminal.
    pub fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal().then(Shown::after_a_second) }
    }

    /// Begins a stage of the work, of so many bytes; 0 where that is not known.
    pub fn stage(&self, name: &'static str, bytes: u64) {
        let Some(Shown { bar, .. }) = &self.shown else { return };
        let template = if bytes > 0 { "{msg} {wide_bar} {percent}%" } else { "{msg} {spinner} {elapsed}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_length(bytes);
        bar.set_position(0);
        bar.set_message(name);
    }

    /// Reports how many bytes are done; cheap enough to be called for every row.
    pub fn at(&self, row: usize, bytes: impl FnOnce() -> u64) {
        if let Some(Shown { bar, .. }) = &self.shown
            && row.is_multiple_of(STRIDE)
        {
            bar.set_position(bytes());
        }
    }
}

impl Shown {
    fn after_a_second() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let (_alive, ended) = channel();
        let late = bar.clone();
        std::thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                late.set_draw_target(ProgressDrawTarget::stderr());
                late.enable_steady_tick(TICK);
            }
        });
        Self { bar, _alive }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
