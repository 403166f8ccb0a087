//! Where a run is, on stderr: a bar on a terminal, plain lines elsewhere, burn-train's dashboard when asked for.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::TrainError;
use crate::metrics::MetricsRow;

/// A line to stderr. Unlike with `eprintln!`, a reader that has gone away ends neither the line nor the run.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), $($argument)*);
    }};
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Display {
    /// A bar if stderr is a terminal, lines otherwise.
    #[default]
    Auto,
    /// burn-train's terminal dashboard.
    Dashboard,
}

/// Seconds between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows the steps of one run.
pub struct Progress {
    view: View,
    stage: String,
    max_steps: u64,
}

enum View {
    Bar(ProgressBar),
    Lines {
        last: Option<Instant>,
    },
    #[cfg(feature = "dashboard")]
    Dashboard(crate::dashboard::Dashboard),
}

impl Progress {
    /// A view for the steps after `step` up to `max_steps`.
    ///
    /// # Errors
    /// If the dashboard is asked for and cannot be had.
    pub fn open(display: Display, stage: &str, step: u64, max_steps: u64) -> Result<Self, TrainError> {
        let view = match display {
            Display::Dashboard => dashboard(stage, max_steps)?,
            Display::Auto if std::io::stderr().is_terminal() => View::Bar(bar(stage, step, max_steps)),
            Display::Auto => View::Lines { last: None },
        };
        Ok(Self { view, stage: stage.to_owned(), max_steps })
    }

    /// Shows a step.
    pub fn update(&mut self, row: &MetricsRow) {
        let on_grid = row.valid_weights.as_ref().map(|grid| format!(" in {grid}")).unwrap_or_default();
        let valid = row.valid_bits_per_byte.map(|bits| format!(" · held out {bits:.3} bits/byte{on_grid}"));
        let valid = valid.unwrap_or_default();
        let own = if row.on_policy == Some(true) { " on own samples" } else { "" };
        let message = format!("loss {:.3}{own} · {:.0} tokens/s{valid}", row.loss_nats, row.tokens_per_s);
        match &mut self.view {
            View::Bar(bar) => {
                bar.set_position(row.step);
                bar.set_message(message);
            }
            View::Lines { last } => {
                let due = last.is_none_or(|last| last.elapsed() >= LINE_EVERY);
                if due || row.step == self.max_steps || row.valid_bits_per_byte.is_some() {
                    *last = Some(Instant::now());
                    say!("{}: step {}/{} · {message}", self.stage, row.step, self.max_steps);
                }
            }
            #[cfg(feature = "dashboard")]
            View::Dashboard(dashboard) => dashboard.update(row),
        }
    }

    /// Whether the user asked for a stop in the dashboard.
    pub fn stop_requested(&self) -> bool {
        match &self.view {
            #[cfg(feature = "dashboard")]
            View::Dashboard(dashboard) => dashboard.stop_requested(),
            _ => false,
        }
    }

    /// A line above the bar.
    pub fn note(&self, line: &str) {
        match &self.view {
            View::Bar(bar) => bar.suspend(|| say!("{line}")),
            View::Lines { .. } => say!("{line}"),
            #[cfg(feature = "dashboard")]
            View::Dashboard(_) => {}
        }
    }

    /// Gives the terminal back.
    pub fn close(self) {
        match self.view {
            View::Bar(bar) => bar.finish(),
            View::Lines { .. } => {}
            #[cfg(feature = "dashboard")]
            View::Dashboard(dashboard) => dashboard.close(),
        }
    }
}

fn bar(stage: &str, step: u64, max_steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(max_steps).with_prefix(stage.to_owned()).with_position(step);
    let style = ProgressStyle::with_template("{prefix:>14} {bar:30} {pos}/{len} · {msg} · {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(feature = "dashboard")]
fn dashboard(stage: &str, max_steps: u64) -> Result<View, TrainError> {
    let dashboard = crate::dashboard::Dashboard::open(stage, max_steps as usize);
    dashboard.map(View::Dashboard).ok_or(TrainError::Dashboard("needs a terminal on stdout; hint: leave it out"))
}

#[cfg(not(feature = "dashboard"))]
fn dashboard(_stage: &str, _max_steps: u64) -> Result<View, TrainError> {
    Err(TrainError::Dashboard("not in this build; hint: build with `--features dashboard`"))
}
