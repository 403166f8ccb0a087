//! The one thread that computes: answers join a batch when there is room, and leave it when they end or nobody listens.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use limbeck_model::{Ended, Joined, NewToken, RunningBatch, Transformer};
use tokio::sync::mpsc::UnboundedSender;

use super::shared::{Event, Finish, Job, Shared};
use crate::answer_text::AnswerText;

/// How often somebody who has nothing to do looks for a signal.
const POLL: Duration = Duration::from_millis(50);

/// How long answers that are under way may go on after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// The model at work.
pub(super) struct Engine {
    batch: RunningBatch,
    answers: HashMap<Joined, Answer>,
    parallel: usize,
}

/// An answer under way.
struct Answer {
    text: AnswerText,
    tokens: usize,
    events: UnboundedSender<Event>,
}

impl Engine {
    pub(super) fn new(model: &Transformer, parallel: usize) -> Self {
        Self { batch: RunningBatch::new(model), answers: HashMap::new(), parallel }
    }

    /// Answers until there is a signal, which it gives; what is under way then has [`GRACE`].
    pub(super) fn run(&mut self, shared: &Shared, jobs: Receiver<Job>, signal: &dyn Fn() -> Option<i32>) -> i32 {
        let signal = loop {
            if let Some(signal) = signal() {
                break signal;
            }
            self.admit(shared, &jobs);
            self.step(shared);
        };
        shared.stopping.store(true, Ordering::Relaxed);
        // Those that wait learn it at once.
        drop(jobs);
        let end = Instant::now() + GRACE;
        while !self.answers.is_empty() && Instant::now() < end {
            self.step(shared);
        }
        self.answers.clear();
        signal
    }

    /// Takes requests while there is room; waits for one if there is nothing else to do.
    fn admit(&mut self, shared: &Shared, jobs: &Receiver<Job>) {
        while self.answers.len() < self.parallel {
            let job = if self.answers.is_empty() {
                match jobs.recv_timeout(POLL) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
                }
            } else {
                match jobs.try_recv() {
                    Ok(job) => job,
                    Err(_) => return,
                }
            };
            shared.load.waiting.fetch_sub(1, Ordering::Relaxed);
            self.begin(job);
        }
    }

    fn begin(&mut self, Job { prompt, generation, stop, events }: Job) {
        if events.is_closed() {
            return;
        }
        match self.batch.join(prompt, generation) {
            Ok(row) => drop(self.answers.insert(row, Answer { text: AnswerText::new(stop), tokens: 0, events })),
            // Whoever asked may have gone.
            Err(error) => drop(events.send(Event::Failed(error.to_string()))),
        }
    }

    fn step(&mut self, shared: &Shared) {
        let Self { batch, answers, .. } = self;
        answers.retain(|row, answer| {
            let listened_to = !answer.events.is_closed();
            if !listened_to {
                batch.leave(*row);
            }
            listened_to
        });
        shared.load.running.store(answers.len(), Ordering::Relaxed);
        if answers.is_empty() {
            return;
        }
        let tokens = batch.step();
        shared.load.generated.fetch_add(tokens.len() as u64, Ordering::Relaxed);
        for token in tokens {
            let row = token.row;
            if answers.get_mut(&row).is_some_and(|answer| answer.say(shared, token)) {
                batch.leave(row);
                answers.remove(&row);
            }
        }
        shared.load.running.store(answers.len(), Ordering::Relaxed);
    }
}

impl Answer {
    /// Passes a token on; whether the answer is over.
    fn say(&mut self, shared: &Shared, token: NewToken) -> bool {
        self.tokens += 1;
        match self.events_of(shared, token) {
            Ok((text, reason)) => {
                if !text.is_empty() {
                    drop(self.events.send(Event::Text(text)));
                }
                let Some(reason) = reason else { return false };
                drop(self.events.send(Event::End(Finish { reason, completion_tokens: self.tokens })));
            }
            Err(error) => drop(self.events.send(Event::Failed(error.to_string()))),
        }
        true
    }

    /// The text that a token completes, and why it is the last, if it is.
    fn events_of(
        &mut self,
        shared: &Shared,
        token: NewToken,
    ) -> Result<(String, Option<&'static str>), limbeck_data::DataError> {
        let tokenizer = &shared.tokenizer;
        let mut text = match token.ended {
            Some(Ended::Stop) => String::new(),
            _ => self.text.push(tokenizer, token.token)?,
        };
        if token.ended.is_some() {
            text += &self.text.finish(tokenizer)?;
        }
        let reason = match token.ended {
            _ if self.text.has_stopped() => Some("stop"),
            Some(Ended::Stop) => Some("stop"),
            Some(Ended::Length) => Some("length"),
            None => None,
        };
        Ok((text, reason))
    }
}
