//! What a step directory holds.

use std::collections::BTreeSet;
use std::path::Path;

use burn::tensor::Device;
use limbeck_config::OptimizerSection;
use limbeck_data::Tokenizer;
use limbeck_model::{
    NamedTensors, TokenIds, Transformer, load_parameters, load_tensors, parameters, save_tensors, write_directory,
};

use crate::alignment::HiddenAlignment;
use crate::error::TrainError;
use crate::optimizer::AdamW;
use crate::step::{AlignmentTrainer, Trainer};

const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The maps of an alignment with the state of their optimizer: of use to a resumed run alone.
const PROJECTION_FILE: &str = "projection.safetensors";

/// Writes the model, its tokenizer and the optimizer's state into `directory`, and what is trained beside the model.
///
/// # Errors
/// If a file cannot be written.
pub fn write_step(trainer: &Trainer, tokenizer: &Tokenizer, directory: &Path) -> Result<(), TrainError> {
    write_model(&trainer.model, tokenizer, directory)?;
    if let Some(AlignmentTrainer { alignment, optimizer }) = &trainer.alignment {
        let tensors = parameters(alignment).into_iter().chain(optimizer.state()).collect();
        save_tensors(&directory.join(PROJECTION_FILE), &tensors)?;
    }
    Ok(save_tensors(&directory.join(OPTIMIZER_FILE), &trainer.optimizer.state())?)
}

/// Writes the model and its tokenizer into `directory`.
///
/// # Errors
/// If a file cannot be written.
pub fn write_model(model: &Transformer, tokenizer: &Tokenizer, directory: &Path) -> Result<(), TrainError> {
    let ids = TokenIds { end: tokenizer.stop_ids(), padding: tokenizer.end_of_text() };
    write_directory(model, &ids, directory)?;
    Ok(tokenizer.save(directory)?)
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

/// `alignment` and its optimizer as they were in the step directory after `step` steps.
///
/// # Errors
/// If the file is missing or does not hold the maps and their optimizer's state.
pub fn load_alignment(
    alignment: HiddenAlignment,
    config: &OptimizerSection,
    step: u64,
    directory: &Path,
    device: &Device,
) -> Result<AlignmentTrainer, TrainError> {
    let tensors = load_tensors(&directory.join(PROJECTION_FILE))?;
    let names: BTreeSet<String> = parameters(&alignment).into_keys().collect();
    let (maps, state): (NamedTensors, NamedTensors) = tensors.into_iter().partition(|(name, _)| names.contains(name));
    let optimizer = AdamW::resume(config, step, state, device)?;
    Ok(AlignmentTrainer { alignment: load_parameters(alignment, maps)?, optimizer })
}
