//! Batched generation.

use rayon::prelude::*;

use crate::cache::Cache;
use crate::error::ModelError;
use crate::sampling::Sampling;
use crate::transformer::Transformer;

/// What to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// Tokens for each prompt at most.
    pub max_new_tokens: usize,
    /// Tokens that end a row; they are part of its answer.
    pub stop: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// The continuation of each prompt. Prompts may differ in length; each row is what it would be alone.
///
/// A row ends with a stop token, after `max_new_tokens`, or where the longest prompt's row reaches the model's
/// `max_position_embeddings`. `on_token(row, token)` hears of each token as it comes.
///
/// # Errors
/// If a prompt is empty, has an unknown token, or leaves no room for an answer.
pub fn generate(
    model: &Transformer,
    prompts: &[Vec<u32>],
    generation: &Generation,
    mut on_token: impl FnMut(usize, u32),
) -> Result<Vec<Vec<u32>>, ModelError> {
    check(model, prompts)?;
    let Some(width) = prompts.iter().map(Vec::len).max() else { return Ok(Vec::new()) };
    let capacity = width.saturating_add(generation.max_new_tokens).min(model.config().max_position_embeddings);
    let padding: Vec<usize> = prompts.iter().map(|prompt| width - prompt.len()).collect();
    let padded = |(prompt, padding): (&Vec<u32>, &usize)| [vec![0; *padding], prompt.clone()].concat();
    let mut inputs: Vec<u32> = prompts.iter().zip(&padding).flat_map(padded).collect();
    let mut tokens = width;
    let mut cache = Cache::new(model.config(), padding, capacity, &model.device());
    let mut answers = vec![Vec::new(); prompts.len()];
    let mut done = vec![false; prompts.len()];
    for index in 0..capacity - width {
        let logits = model.next_logits(&inputs, tokens, &mut cache).into_data();
        let logits: Vec<f32> = logits.convert::<f32>().try_into_vec().expect("converted to 32-bit floats");
        let vocab_size = model.config().vocab_size;
        let choose = |(row, logits)| generation.sampling.choose(logits, row, index);
        inputs = logits.par_chunks(vocab_size).enumerate().map(choose).collect();
        tokens = 1;
        for (row, token) in inputs.iter().enumerate().filter(|(row, _)| !done[*row]).collect::<Vec<_>>() {
            answers[row].push(*token);
            on_token(row, *token);
            done[row] = generation.stop.contains(token);
        }
        if done.iter().all(|done| *done) {
            break;
        }
    }
    Ok(answers)
}

fn check(model: &Transformer, prompts: &[Vec<u32>]) -> Result<(), ModelError> {
    let (limit, vocab_size) = (model.config().max_position_embeddings, model.config().vocab_size);
    for (row, prompt) in prompts.iter().enumerate() {
        if prompt.is_empty() {
            return Err(ModelError::EmptyPrompt { row });
        }
        if prompt.len() >= limit {
            return Err(ModelError::LongPrompt { row, tokens: prompt.len(), limit });
        }
        if let Some(token) = prompt.iter().copied().find(|token| *token as usize >= vocab_size) {
            return Err(ModelError::UnknownToken { row, token, vocab_size });
        }
    }
    Ok(())
}
