//! `pretrain`: next-token prediction.

use limbeck_config::TrainingStage;

use crate::cli::TrainingArgs;
use crate::failure::{Completion, Failure};
use crate::training::{self, Stage};

/// Runs the stage.
///
/// # Errors
/// See [`training::run`].
pub fn run(args: &TrainingArgs) -> Result<Completion, Failure> {
    training::run(&Stage { kind: TrainingStage::Pretrain, goal: &training::next_token, before: None }, args)
}
