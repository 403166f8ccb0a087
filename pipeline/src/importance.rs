//! `[export.importance]`: what the columns of a model's matrices matter, on calibration data.

use anyhow::anyhow;
use limbeck_config::ImportanceSection;
use limbeck_data::{Mixture, Tokenizer};
use limbeck_export::Importance;
use limbeck_model::Transformer;
use limbeck_train::{input_mean_squares, say};

use crate::failure::Failure;
use crate::tokenised;

/// Rows of one forward pass.
const ROWS_AT_ONCE: usize = 8;

/// Tokens in a row, where neither the config nor the model says less: what `llama-imatrix` takes.
const USUAL_LENGTH: usize = 512;

/// The mean square of what meets each column, over the first rows of the calibration data; says on stderr of how much.
///
/// # Errors
/// Rows longer than the model was made for; data that cannot be read, or that have no target token.
pub fn measure(
    section: &ImportanceSection,
    model: &Transformer,
    tokenizer: &Tokenizer,
    seed: u64,
) -> Result<Importance, Failure> {
    let longest = model.config().max_position_embeddings;
    let length = section.sequence_length.unwrap_or(longest.min(USUAL_LENGTH));
    if length > longest {
        return Err(Failure::usage(anyhow!(
            "export.importance.sequence_length is `{length}`, must be at most `{longest}`, max_position_embeddings of \
             export.from; hint: leave it out"
        )));
    }
    let data = Mixture::open(&section.data, tokenizer, length, seed, &section.cache, &tokenised::show)
        .map_err(Failure::usage)?;
    tokenised::warn(&data);
    let batch = data.batch(0, section.calibration_tokens.div_ceil(length));
    let targets = batch.target_tokens();
    if targets == 0 {
        return Err(Failure::usage(anyhow!(
            "export.importance.data has no target token in `{}` tokens; hint: raise export.importance.calibration_tokens",
            section.calibration_tokens
        )));
    }
    say!("importance: mean squares of the inputs of every matrix, over {targets} tokens");
    Ok(input_mean_squares(model, &batch.micro_batches(ROWS_AT_ONCE)))
}
