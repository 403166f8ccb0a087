//! `pretrain`: next-token prediction.

use limbeck_config::TrainingStage;
use limbeck_train::NextToken;

use crate::cli::TrainingArgs;
use crate::failure::{Completion, Failure};
use crate::training::{self, Stage};

/// Runs the stage.
///
/// # Errors
/// See [`training::run`].
pub fn run(args: &TrainingArgs) -> Result<Completion, Failure> {
    let objective = &|_: &_, _: &_, _: &_, _: &_| Ok((Box::new(NextToken) as Box<_>, None));
    training::run(&Stage { kind: TrainingStage::Pretrain, objective, before: None }, args)
}
