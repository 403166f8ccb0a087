//! `sft`: next-token prediction of the assistant's turns. The data masks the prompts, so the objective is `pretrain`'s.

use limbeck_config::TrainingStage;

use crate::cli::TrainingArgs;
use crate::failure::{Completion, Failure};
use crate::training::{self, Stage};

/// Runs the stage.
///
/// # Errors
/// See [`training::run`].
pub fn run(args: &TrainingArgs) -> Result<Completion, Failure> {
    training::run(&Stage { kind: TrainingStage::Sft, goal: &training::next_token, before: None }, args)
}
