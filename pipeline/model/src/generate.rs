//! Batched generation.

use std::ops::ControlFlow;

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
    let model = model.clone().without_autodiff();
    let Some(width) = prompts.iter().map(Vec::len).max() else { return Ok(Vec::new()) };
    let capacity = width.saturating_add(generation.max_new_tokens).min(model.config().max_position_embeddings);
    let padding: Vec<usize> = prompts.iter().map(|prompt| width - prompt.len()).collect();
    let padded = |(prompt, padding): (&Vec<u32>, &usize)| [vec![0; *padding], prompt.clone()].concat();
    let mut inputs: Vec<u32> = prompts.iter().zip(&padding).flat_map(padded).collect();
    let mut tokens = width;
    let mut cache = Cache::new(model.config(), padding, capacity, &model.device());
    let mut answers = vec![Vec::new(); prompts.len()];
    // The prompts that the batch's rows go on from: those whose answer has ended leave it.
    let mut rows: Vec<usize> = (0..prompts.len()).collect();
    for index in 0..capacity - width {
        let logits = model.next_logits(&inputs, tokens, &mut cache).into_data();
        let logits: Vec<f32> = logits.convert::<f32>().try_into_vec().expect("converted to 32-bit floats");
        let choose = |(place, logits)| generation.sampling.choose(logits, rows[place], index);
        inputs = logits.par_chunks(model.config().vocab_size).enumerate().map(choose).collect();
        tokens = 1;
        let has_ended = |row: usize| answers[row].last().is_some_and(|token| generation.stop.contains(token));
        let going: Vec<usize> = (0..rows.len()).filter(|place| !has_ended(rows[*place])).collect();
        for (row, token) in going.iter().map(|place| (rows[*place], inputs[*place])) {
            answers[row].push(token);
            on_token(row, token);
        }
        let going: Vec<usize> = going.into_iter().filter(|place| !generation.stop.contains(&inputs[*place])).collect();
        if going.is_empty() {
            break;
        }
        // The cache is copied: worth it once half of the rows have nothing more to say.
        if 2 * going.len() <= rows.len() {
            cache.keep(&going);
            rows = going.iter().map(|place| rows[*place]).collect();
            inputs = going.iter().map(|place| inputs[*place]).collect();
        }
    }
    Ok(answers)
}

/// [`generate`] for any number of prompts, `rows_at_once` at a time, those of similar length together: a batch is as wide
/// as its longest prompt. The answers come in the order of the prompts. `on_batch` is told of the tokens of each batch;
/// where it breaks off, there are no answers.
///
/// # Errors
/// As [`generate`].
pub fn generate_in_batches(
    model: &Transformer,
    prompts: &[Vec<u32>],
    generation: &Generation,
    rows_at_once: usize,
    mut on_batch: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Vec<Vec<u32>>>, ModelError> {
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    // Stable, so that the batches are a function of the prompts.
    order.sort_by_key(|index| prompts[*index].len());
    let mut answers = vec![Vec::new(); prompts.len()];
    for (index, batch) in order.chunks(rows_at_once.max(1)).enumerate() {
        let sampling = generation.sampling.stream(index as u64);
        let rows: Vec<Vec<u32>> = batch.iter().map(|row| prompts[*row].clone()).collect();
        let said = generate(model, &rows, &Generation { sampling, ..generation.clone() }, |_, _| ())?;
        let tokens = said.iter().map(Vec::len).sum();
        batch.iter().zip(said).for_each(|(row, said)| answers[*row] = said);
        if on_batch(tokens).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(answers))
}

pub(crate) fn check(model: &Transformer, prompts: &[Vec<u32>]) -> Result<(), ModelError> {
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
