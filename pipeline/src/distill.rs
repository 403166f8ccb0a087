//! `distill`: a student learns a teacher's distribution; `--control` learns the same rows by cross-entropy alone.

use anyhow::{Context, anyhow};
use burn::tensor::Device;
use clap::Args;
use limbeck_checkpoint::Parent;
use limbeck_config::{TrainingConfig, TrainingStage};
use limbeck_data::Tokenizer;
use limbeck_train::{Distillation, NextToken, Objective};

use crate::cli::TrainingArgs;
use crate::failure::{Completion, Failure};
use crate::training::{self, Stage};
use crate::{device, source};

/// Arguments of `distill`.
#[derive(Args, Clone, Debug)]
pub struct DistillArgs {
    /// Those of every stage that trains.
    #[command(flatten)]
    pub training: TrainingArgs,
    /// Trains the same student on the same rows by cross-entropy alone, into `student-ce`.
    #[arg(long)]
    pub control: bool,
}

/// Runs the stage.
///
/// # Errors
/// See [`training::run`].
pub fn run(args: &DistillArgs) -> Result<Completion, Failure> {
    let stage = |directory, objective| Stage { kind: TrainingStage::Distill, directory, objective };
    if args.control {
        let control = |_: &_, _: &_, _: &_| Ok((Box::new(NextToken) as Box<dyn Objective>, None));
        training::run(&stage("student-ce", &control), &args.training)
    } else {
        training::run(&stage("student", &distillation), &args.training)
    }
}

fn distillation(
    config: &TrainingConfig,
    tokenizer: &Tokenizer,
    device: &Device,
) -> Result<(Box<dyn Objective>, Option<Parent>), Failure> {
    let (Some(teacher), Some(distill)) = (&config.teacher, &config.distill) else {
        // Loading the config refuses it first.
        return Err(Failure::usage(anyhow!("`distill` needs [teacher]; hint: give teacher.from")));
    };
    let source = source::open("teacher.from", &teacher.from, device)?;
    source.check_length("teacher.from", config.data.sequence_length)?;
    tokenizer
        .check_same(&source.tokenizer)
        .context("data.tokenizer is not the tokenizer of teacher.from")
        .map_err(Failure::usage)?;
    // Resolved by the time that the objective is made.
    let precision = config.train.precision.map_or(limbeck_kernels::Precision::Fp32, device::of_products);
    let objective = Distillation {
        teacher: source.model.with_precision(precision),
        divergence: distill.into(),
        ce_weight: distill.ce_weight,
    };
    Ok((Box::new(objective), Some(source.parent)))
}
