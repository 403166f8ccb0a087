//! What a step directory holds.

use std::path::Path;

use burn::tensor::Device;
use limbeck_config::OptimizerSection;
use limbeck_data::Tokenizer;
use limbeck_model::{TokenIds, load_tensors, save_tensors, write_directory};

use crate::error::TrainError;
use crate::optimizer::AdamW;
use crate::step::Trainer;

const OPTIMIZER_FILE: &str = "optimizer.safetensors";

/// Writes the model, its tokenizer and the optimizer's state into `directory`.
///
/// # Errors
/// If a file cannot be written.
pub fn write_step(trainer: &Trainer, tokenizer: &Tokenizer, directory: &Path) -> Result<(), TrainError> {
    let ids = TokenIds { end: tokenizer.stop_ids(), padding: tokenizer.end_of_text() };
    write_directory(&trainer.model, &ids, directory)?;
    tokenizer.save(directory)?;
    Ok(save_tensors(&directory.join(OPTIMIZER_FILE), &trainer.optimizer.state())?)
}

/// The optimizer of the step directory, which had made `step` steps.
///
/// # Errors
/// If the file is missing or does not hold an optimizer's state.
pub fn load_optimizer(
    config: &OptimizerSection,
    step: u64,
    directory: &Path,
    device: &Device,
) -> Result<AdamW, TrainError> {
    AdamW::resume(config, step, load_tensors(&directory.join(OPTIMIZER_FILE))?, device)
}
