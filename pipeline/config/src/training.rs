//! `[train]`, and the config of `pretrain`, `sft` and `distill`.

use serde::{Deserialize, Serialize};

use crate::capture::{CaptureSection, TeacherSection};
use crate::data::DataSection;
use crate::fake_quant::FakeQuantSection;
use crate::generate::GenerateSection;
use crate::model::ModelSection;
use crate::on_policy::OnPolicySection;
use crate::optimizer::{OptimizerSection, ScheduleSection};
use crate::problem::Problem;
use crate::rules;
use crate::run::RunSection;
use crate::weights::{DistillSection, StartSection};

/// Arithmetic of the training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats everywhere.
    Fp32,
    /// Inputs of matrix products rounded to 16-bit brain floats; weights, sums and everything else stay 32-bit.
    Bf16,
    /// The same with 16-bit floats of IEEE 754, for GPUs that multiply no brain floats.
    Fp16,
}

impl Precision {
    /// As a config has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
        }
    }
}

/// What the forward pass does not keep for the backward pass, which computes it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Nothing.
    #[default]
    None,
    /// Everything inside a block: only the stream between the blocks is kept.
    Block,
}

/// `[train]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// Optimizer steps; give this or `max_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Tokens, padding included, rounded up to whole steps; give this or `max_steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Tokens of an optimizer step, padding included: a multiple of `data.sequence_length`.
    pub tokens_per_step: usize,
    /// Rows of one forward pass; default: the whole step. Does not change what is learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch_size: Option<usize>,
    /// What the backward pass computes again, to take less memory. Does not change what is learned.
    #[serde(default)]
    pub recompute: Recompute,
    /// Arithmetic; default: `bf16` where the device multiplies it faster, else `fp16` where it does that, else `fp32`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Trains on the number grid of an export; default: on 32-bit weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fake_quant: Option<FakeQuantSection>,
    /// Steps between two rows of `metrics.jsonl`.
    #[serde(default = "one_step")]
    pub log_every: u64,
    /// Steps between two evaluations; default: only after the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_every: Option<u64>,
    /// Steps between two checkpoints; default: only after the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_every: Option<u64>,
    /// Checkpoints that are kept, at least 2.
    #[serde(default = "two")]
    pub keep_checkpoints: usize,
}

/// `pretrain`, `sft` and `distill` read the same file; only `distill` has `[teacher]`, `[distill]`, `[on_policy]`,
/// `[capture]` and `[generate]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Name and seed.
    pub run: RunSection,
    /// What is read.
    pub data: DataSection,
    /// Where the weights come from.
    #[serde(default = "random")]
    pub start: StartSection,
    /// Shape, where the weights are random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSection>,
    /// Steps, batches, intervals.
    pub train: TrainSection,
    /// AdamW.
    pub optimizer: OptimizerSection,
    /// Learning rate over the steps.
    pub schedule: ScheduleSection,
    /// `distill`: whose logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherSection>,
    /// `distill`: which loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<DistillSection>,
    /// `distill`: steps that learn from the student's own continuations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_policy: Option<OnPolicySection>,
    /// `distill --capture`: what is kept of the teacher's logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<CaptureSection>,
    /// `distill --generate`: how the teacher answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<GenerateSection>,
}

/// The stages that train, which share one config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainingStage {
    /// Next token, from random weights or a checkpoint.
    Pretrain,
    /// Next token of the assistant's turns.
    Sft,
    /// A teacher's distribution of the next token.
    Distill,
}

impl TrainingStage {
    /// The command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Sft => "sft",
            Self::Distill => "distill",
        }
    }

    /// The stage's part of the run directory, `checkpoints/<run.name>/<directory>`.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Pretrain => "teacher",
            Self::Sft => "sft",
            Self::Distill => "student",
        }
    }
}

impl TrainingConfig {
    /// Rows of an optimizer step.
    ///
    /// # Units
    /// Rows of `data.sequence_length` tokens. At least 1 in a loaded config.
    pub fn rows_per_step(&self) -> usize {
        self.train.tokens_per_step.checked_div(self.data.sequence_length).unwrap_or(0)
    }

    /// Rows of one forward pass: `train.micro_batch_size`, or the whole step.
    pub fn micro_batch_size(&self) -> usize {
        self.train.micro_batch_size.unwrap_or_else(|| self.rows_per_step())
    }

    /// Optimizer steps of the run: `train.max_steps`, or the steps that `train.max_tokens` needs, rounded up.
    pub fn max_steps(&self) -> u64 {
        match (self.train.max_steps, self.train.max_tokens) {
            (Some(max_steps), _) => max_steps,
            (None, Some(max_tokens)) => max_tokens.div_ceil(self.train.tokens_per_step.max(1) as u64),
            (None, None) => 0,
        }
    }

    /// From what everything random is drawn.
    pub fn seed(&self) -> u64 {
        self.run.seed
    }

    /// Every rule that the values break.
    pub(crate) fn problems(&self, stage: TrainingStage) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.run.check(&mut problems);
        self.data.check(&mut problems);
        self.start.check(self.model.is_some(), self.data.tokenizer.is_some(), &mut problems);
        if let Some(model) = &self.model {
            model.check(self.data.sequence_length, &mut problems);
        }
        self.train.check(self.data.sequence_length, self.data.valid.is_empty(), &mut problems);
        self.optimizer.check(&mut problems);
        self.schedule.check(Some(self.max_steps()).filter(|&steps| steps > 0), &mut problems);
        self.check_teacher(stage, &mut problems);
        problems
    }

    fn check_teacher(&self, stage: TrainingStage, problems: &mut Vec<Problem>) {
        if let Some(teacher) = &self.teacher {
            teacher.check(problems);
        }
        if let Some(distill) = &self.distill {
            distill.check(self.teacher.as_ref(), problems);
        }
        if let Some(on_policy) = &self.on_policy {
            on_policy.check(self.data.sequence_length, self.teacher.as_ref(), problems);
        }
        if let Some(capture) = &self.capture {
            capture.check(problems);
        }
        if let Some(generate) = &self.generate {
            generate.check(problems);
        }
        if stage == TrainingStage::Distill {
            if self.teacher.is_none() {
                problems.push(
                    Problem::missing("teacher", "distill needs one")
                        .hint("add [teacher] with from = a run directory such as `checkpoints/tiny/sft`"),
                );
            }
            return;
        }
        let given = [
            ("teacher", self.teacher.is_some()),
            ("distill", self.distill.is_some()),
            ("on_policy", self.on_policy.is_some()),
            ("capture", self.capture.is_some()),
            ("generate", self.generate.is_some()),
        ];
        for (key, given) in given {
            if given {
                problems.push(
                    Problem::worded(key, format!("is given, but {} has no use for it", stage.name()))
                        .hint(format!("leave [{key}] out (--set {key}=), or run distill")),
                );
            }
        }
    }
}

impl TrainSection {
    fn check(&self, sequence_length: usize, nothing_held_out: bool, problems: &mut Vec<Problem>) {
        self.check_length(problems);
        self.check_batch(sequence_length, problems);
        rules::at_least(problems, "train.log_every", self.log_every, 1);
        rules::at_least(problems, "train.keep_checkpoints", self.keep_checkpoints as u64, 2);
        for (key, interval) in [("train.eval_every", self.eval_every), ("train.save_every", self.save_every)] {
            if let Some(interval) = interval {
                rules::at_least(problems, key, interval, 1);
            }
        }
        if let Some(interval) = self.eval_every.filter(|_| nothing_held_out) {
            problems.push(
                Problem::new("train.eval_every", interval, "needs data.valid")
                    .reads("data.valid")
                    .hint("add [[data.valid]] with a `path`, or leave eval_every out"),
            );
        }
    }

    fn check_length(&self, problems: &mut Vec<Problem>) {
        match (self.max_steps, self.max_tokens) {
            (None, None) => problems.push(
                Problem::missing("train.max_steps", "and so is train.max_tokens: one of them must be given")
                    .reads("train.max_tokens")
                    .hint("add max_steps, such as `600`"),
            ),
            (Some(steps), Some(tokens)) => problems.push(
                Problem::new("train.max_steps", steps, format!("must not be given with train.max_tokens = `{tokens}`"))
                    .reads("train.max_tokens")
                    .hint("leave one of them out, such as with --set train.max_steps="),
            ),
            _ => {}
        }
        for (key, length) in [("train.max_steps", self.max_steps), ("train.max_tokens", self.max_tokens)] {
            if let Some(length) = length {
                rules::at_least(problems, key, length, 1);
            }
        }
    }

    fn check_batch(&self, sequence_length: usize, problems: &mut Vec<Problem>) {
        if let Some(rows) = self.micro_batch_size {
            rules::at_least(problems, "train.micro_batch_size", rows as u64, 1);
        }
        let tokens = self.tokens_per_step;
        if u32::try_from(tokens).is_err() {
            let rule = format!("must be at most `{}`", u32::MAX);
            problems.push(Problem::new("train.tokens_per_step", tokens, rule).hint("`4096` to `524288` is usual"));
            return;
        }
        let Some(rows) = tokens.checked_div(sequence_length) else { return };
        if tokens == 0 || !tokens.is_multiple_of(sequence_length) {
            let rule = format!("must be a multiple of data.sequence_length = `{sequence_length}`, and not `0`");
            problems.push(
                Problem::new("train.tokens_per_step", tokens, rule)
                    .reads("data.sequence_length")
                    .hint(rules::nearest_multiples(tokens, sequence_length)),
            );
            return;
        }
        if let Some(size) = self.micro_batch_size.filter(|&size| size > 0 && !rows.is_multiple_of(size)) {
            let rule = format!("must divide the `{rows}` rows of a step, train.tokens_per_step / data.sequence_length");
            problems.push(
                Problem::new("train.micro_batch_size", size, rule)
                    .reads("train.tokens_per_step")
                    .reads("data.sequence_length")
                    .hint(format!("use `{}`, or leave it out for the whole step", divisor_below(rows, size))),
            );
        }
    }
}

/// The largest divisor of `rows` under `size`, of the few thousand that are worth a look.
fn divisor_below(rows: usize, size: usize) -> usize {
    (1..size.min(rows)).rev().take(4096).find(|divisor| rows.is_multiple_of(*divisor)).unwrap_or(1)
}

fn one_step() -> u64 {
    1
}

fn two() -> usize {
    2
}

fn random() -> StartSection {
    StartSection::Random {}
}
