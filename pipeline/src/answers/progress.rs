//! How far the answers are.

use std::time::{Duration, Instant};

use limbeck_train::say;

/// Time between two lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Where it is, on stderr: a line every ten seconds, and one at the end.
pub(super) struct Progress {
    started: Instant,
    last: Instant,
    /// Prompts that are to come when it begins, and those that were answered since.
    pub(super) left: u64,
    pub(super) prompts: u64,
    tokens: u64,
    pub(super) kept: u64,
    pub(super) unfinished: u64,
    pub(super) unanswered: u64,
}

impl Progress {
    pub(super) fn new(left: u64) -> Self {
        let now = Instant::now();
        Self { started: now, last: now, left, prompts: 0, tokens: 0, kept: 0, unfinished: 0, unanswered: 0 }
    }

    pub(super) fn batch(&mut self, tokens: usize) {
        self.tokens += tokens as u64;
        if self.last.elapsed() >= LINE_EVERY {
            self.last = Instant::now();
            let share = self.left.saturating_sub(self.prompts) as f64 / self.prompts.max(1) as f64;
            let left = self.started.elapsed().as_secs_f64() * share;
            say!("generate: {} · {left:.0} s left", self.rates());
        }
    }

    fn rates(&self) -> String {
        let speed = self.tokens as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
        format!("prompt {}/{} · {speed:.0} tokens/s", self.prompts, self.left)
    }

    pub(super) fn close(&self) {
        let Self { kept, unfinished, unanswered, .. } = self;
        say!(
            "generate: {} · {kept} answers, {unfinished} cut off or empty, {unanswered} prompts without room or question",
            self.rates()
        );
    }
}
