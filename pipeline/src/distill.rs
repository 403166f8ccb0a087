//! `distill`: a student learns a teacher's distribution; `--control` learns the same rows by cross-entropy alone, and
//! `--capture` keeps the teacher's logits for later.

use anyhow::anyhow;
use burn::tensor::Device;
use clap::Args;
use limbeck_checkpoint::Parent;
use limbeck_config::{TrainingConfig, TrainingStage};
use limbeck_data::{Mixture, Tokenizer};
use limbeck_logits::Shard;
use limbeck_loss::MixedLoss;
use limbeck_train::{Distillation, NextToken, Objective};

use crate::cli::TrainingArgs;
use crate::failure::{Completion, Failure};
use crate::training::{self, Stage};
use crate::{capture, teacher};

/// Arguments of `distill`.
#[derive(Args, Clone, Debug)]
pub struct DistillArgs {
    /// Those of every stage that trains.
    #[command(flatten)]
    pub training: TrainingArgs,
    /// Trains the same student on the same rows by cross-entropy alone, into `student-ce`.
    #[arg(long)]
    pub control: bool,
    /// Runs the teacher `teacher.from` once over the training data and keeps its logits in `teacher.logits`, instead of
    /// training. What is there already is kept, so the same command goes on after an interruption.
    #[arg(long, conflicts_with = "control")]
    pub capture: bool,
    /// With --capture: this process writes the parts whose number is I modulo N.
    #[arg(long, value_name = "I/N", requires = "capture")]
    pub shard: Option<Shard>,
}

impl DistillArgs {
    /// Trains the student, or its control.
    pub fn training(training: TrainingArgs, control: bool) -> Self {
        Self { training, control, capture: false, shard: None }
    }
}

/// Runs the stage.
///
/// # Errors
/// See [`training::run`] and [`capture::run`].
pub fn run(args: &DistillArgs) -> Result<Completion, Failure> {
    let stage = |directory, objective| Stage { kind: TrainingStage::Distill, directory, objective };
    if args.capture {
        capture::run(&args.training, args.shard.unwrap_or_default())
    } else if args.control {
        let control = |_: &_, _: &_, _: &_, _: &_| Ok((Box::new(NextToken) as Box<dyn Objective>, None));
        training::run(&stage("student-ce", &control), &args.training)
    } else {
        training::run(&stage("student", &distillation), &args.training)
    }
}

fn distillation(
    config: &TrainingConfig,
    tokenizer: &Tokenizer,
    data: &Mixture,
    device: &Device,
) -> Result<(Box<dyn Objective>, Option<Parent>), Failure> {
    let Some(distill) = &config.distill else {
        // Loading the config refuses it first.
        return Err(Failure::usage(anyhow!("`distill` needs [distill]; hint: give distill.temperature")));
    };
    let (teacher, parent) = teacher::open(config, distill, tokenizer, data, device)?;
    let loss = MixedLoss { divergence: distill.into(), ce_weight: distill.ce_weight };
    let objective = Distillation { teacher, loss };
    Ok((Box::new(objective), Some(parent)))
}
