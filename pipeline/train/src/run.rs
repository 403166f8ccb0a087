//! The training loop.

use std::path::PathBuf;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use limbeck_checkpoint::{ManifestHeader, RunDirectory};
use limbeck_config::{OnPolicySection, TrainingConfig};
use limbeck_data::{Batch, Mixture, Tokenizer};

use crate::checkpoint::write_step;
use crate::error::TrainError;
use crate::evaluation::{Score, evaluate};
use crate::metrics::{Metrics, MetricsRow};
use crate::objective::Objective;
use crate::on_policy::{Lesson, OnPolicy, Sampled};
use crate::progress::Progress;
use crate::schedule::learning_rate;
use crate::step::{StepReport, Trainer};

/// Everything that a run needs besides the model and its optimizer.
pub struct Run<'a> {
    /// The stage's configuration.
    pub config: &'a TrainingConfig,
    /// What is minimised.
    pub objective: &'a dyn Objective,
    /// Steps that learn from the student's own samples instead.
    pub on_policy: Option<&'a OnPolicy>,
    /// What is trained on.
    pub train: &'a Mixture,
    /// What is held out.
    pub valid: Option<&'a Mixture>,
    /// Saved with each checkpoint.
    pub tokenizer: &'a Tokenizer,
    /// Where checkpoints and metrics go.
    pub directory: &'a RunDirectory,
    /// What the manifests say besides step, tokens and completeness.
    pub header: ManifestHeader,
    /// Asked after each step; the run then saves and ends.
    pub stop: &'a dyn Fn() -> bool,
}

/// What reads the data, while the step before computes.
#[derive(Clone, Copy)]
struct Reader<'a> {
    config: &'a TrainingConfig,
    objective: &'a dyn Objective,
    own_samples: Option<&'a OnPolicySection>,
    train: &'a Mixture,
}

impl Reader<'_> {
    /// The step's rows of the data.
    fn rows(self, step: u64) -> Batch {
        let rows = self.config.rows_per_step();
        self.train.batch((step - 1) * rows as u64, rows)
    }

    /// The step's rows, of which the objective is told where it will learn from them.
    fn announced_rows(self, step: u64) -> Batch {
        let batch = self.rows(step);
        if self.own_samples.is_none_or(|section| !section.is_due(step)) {
            let micro_batches = batch.micro_batches(self.config.micro_batch_size());
            micro_batches.iter().for_each(|micro_batch| self.objective.announce(micro_batch));
        }
        batch
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// Every step is done.
    Complete(PathBuf),
    /// A stop was asked for; the step is saved.
    Interrupted(PathBuf),
}

impl Run<'_> {
    /// Trains from step `done` to the last one.
    ///
    /// # Errors
    /// If the loss stops being finite, or a file cannot be written. Checkpoints that are complete stay as they are.
    pub fn train(
        &self,
        mut trainer: Trainer,
        done: u64,
        mut progress: Progress,
    ) -> Result<(Trainer, Ending), TrainError> {
        let config = self.config;
        let (rows, max_steps) = (config.rows_per_step(), config.max_steps());
        let mut metrics = Metrics::open(&self.directory.path().join("metrics.jsonl"), done)?;
        let mut clock = Clock::default();
        let mut saved = None;
        let mut next = None;
        for step in done + 1..=max_steps {
            let started = Instant::now();
            let rows_of_step = next.take().unwrap_or_else(|| self.reader().rows(step));
            let Lesson { objective, batch, sampled } = self.lesson(&trainer, rows_of_step, step)?;
            let micro_batches = batch.micro_batches(config.micro_batch_size());
            let factor = learning_rate(&config.schedule, step - 1, max_steps);
            let reader = self.reader();
            let (stepped, read) = std::thread::scope(|scope| {
                let reading = (step < max_steps).then(|| scope.spawn(move || reader.announced_rows(step + 1)));
                (trainer.step(objective, &micro_batches, step, factor), reading.map(ScopedJoinHandle::join))
            });
            next = read.transpose().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let report;
            (trainer, report) = stepped?;
            clock.add(started.elapsed(), config.train.tokens_per_step, sampled);
            let stopping = (self.stop)() || progress.stop_requested();
            let last = step == max_steps;
            let evaluation = self.valid.filter(|_| last || is_due(step, config.train.eval_every));
            let score = |valid| -> Result<Score, TrainError> {
                Ok(Score::total(&evaluate(&trainer.model.on_grid()?, valid, rows, || ())))
            };
            let scores = evaluation.map(score).transpose()?;
            if last || scores.is_some() || step % config.train.log_every == 0 {
                let row = self.row(step, report, factor, clock.take(sampled.is_some()), scores.as_ref());
                metrics.write(&row)?;
                progress.update(&row);
            }
            if last || stopping || is_due(step, config.train.save_every) {
                saved = Some((step, self.save(&trainer, step)?));
            }
            if stopping && !last {
                break;
            }
        }
        progress.close();
        let (step, path) = match saved {
            Some(saved) => saved,
            // Only where `done` is already the last step.
            None => (done, self.save(&trainer, done)?),
        };
        Ok((trainer, if step == max_steps { Ending::Complete(path) } else { Ending::Interrupted(path) }))
    }

    fn reader(&self) -> Reader<'_> {
        let own_samples = self.on_policy.map(|on_policy| &on_policy.section);
        Reader { config: self.config, objective: self.objective, own_samples, train: self.train }
    }

    /// The step's rows, or what the student makes of them.
    fn lesson(&self, trainer: &Trainer, batch: Batch, step: u64) -> Result<Lesson<'_>, TrainError> {
        let size = self.config.micro_batch_size();
        let own = self.on_policy.map(|on_policy| on_policy.lesson(&trainer.model, self.train, &batch, size, step));
        let own = own.transpose()?.flatten();
        Ok(own.unwrap_or(Lesson { objective: self.objective, batch, sampled: None }))
    }

    fn row(&self, step: u64, report: StepReport, factor: f64, speed: Speed, score: Option<&Score>) -> MetricsRow {
        MetricsRow {
            step,
            tokens_seen: step * self.config.train.tokens_per_step as u64,
            loss_nats: report.loss_nats,
            learning_rate: self.config.optimizer.learning_rate * factor,
            grad_norm: report.grad_norm,
            tokens_per_s: speed.tokens_per_s,
            on_policy: self.on_policy.map(|_| speed.on_policy),
            sampled_tokens: self.on_policy.map(|_| speed.sampled.tokens),
            sampling_s: self.on_policy.map(|_| speed.sampled.elapsed.as_secs_f64()),
            valid_loss_nats: score.map(Score::loss_nats),
            valid_bits_per_byte: score.map(Score::bits_per_byte),
            valid_weights: score.and(self.config.train.fake_quant).map(|section| section.weights.name().to_owned()),
        }
    }

    fn save(&self, trainer: &Trainer, step: u64) -> Result<PathBuf, TrainError> {
        let header = ManifestHeader {
            step,
            tokens_seen: step * self.config.train.tokens_per_step as u64,
            complete: step == self.config.max_steps(),
            ..self.header.clone()
        };
        Ok(self.directory.save(header, |directory| write_step(trainer, self.tokenizer, directory))?)
    }
}

fn is_due(step: u64, every: Option<u64>) -> bool {
    every.is_some_and(|every| step.is_multiple_of(every))
}

/// Time in steps alone.
#[derive(Default)]
struct Clock {
    elapsed: Duration,
    tokens: usize,
    sampled: Sampled,
}

/// What a row of the metrics says of the steps since the row before.
struct Speed {
    tokens_per_s: f64,
    /// Of the last of them.
    on_policy: bool,
    sampled: Sampled,
}

impl Clock {
    fn add(&mut self, elapsed: Duration, tokens: usize, sampled: Option<Sampled>) {
        self.elapsed += elapsed;
        self.tokens += tokens;
        if let Some(Sampled { tokens, elapsed }) = sampled {
            self.sampled.tokens += tokens;
            self.sampled.elapsed += elapsed;
        }
    }

    /// Since the last call.
    fn take(&mut self, on_policy: bool) -> Speed {
        let Self { elapsed, tokens, sampled } = std::mem::take(self);
        Speed { tokens_per_s: tokens as f64 / elapsed.as_secs_f64().max(1e-9), on_policy, sampled }
    }
}
