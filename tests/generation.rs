//! Generation with the key-value cache against the forward pass of training.

use limbeck_config::ModelConfig;
use limbeck_model::{Generation, RunningBatch, Sampling, Transformer, generate};

use crate::support::batches::positions;
use crate::support::devices::cpu;
use crate::support::distance::values;
use crate::support::fixture::fixtures;
use crate::support::numbers::Numbers;

const NEW_TOKENS: usize = 120;

/// The fixtures' models with room for long answers: their logits lie far apart, so that rounding turns no choice.
fn models() -> anyhow::Result<Vec<Transformer>> {
    let model = |fixture: &crate::support::fixture::Fixture| {
        let config = ModelConfig { max_position_embeddings: 160, ..fixture.config()? };
        fixture.model_with(&config, fixture.group("weight"), &cpu())
    };
    fixtures()?.iter().map(model).collect()
}

fn greedy(model: &Transformer, prompts: &[Vec<u32>], stop: &[u32]) -> anyhow::Result<Vec<Vec<u32>>> {
    let generation = Generation { max_new_tokens: NEW_TOKENS, stop: stop.to_vec(), sampling: Sampling::default() };
    Ok(generate(model, prompts, &generation, |_, _| ())?)
}

/// Prompts of different lengths, the longest neither first nor last.
fn prompts(model: &Transformer) -> Vec<Vec<u32>> {
    let mut numbers = Numbers::new(21);
    [3, 1, 17, 8].map(|length| numbers.tokens(length, model.config().vocab_size)).to_vec()
}

/// The most likely next token after each token of the text, from one forward pass.
fn most_likely(model: &Transformer, text: &[u32], positions: &[u32]) -> Vec<u32> {
    let logits = values(model.logits(text, positions, text.len()));
    let best = |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0) as u32;
    logits.chunks(model.config().vocab_size).map(best).collect()
}

#[test]
fn cached_generation_is_the_full_forward_pass() -> anyhow::Result<()> {
    for model in models()? {
        let prompt = prompts(&model).swap_remove(2);
        let answer = greedy(&model, std::slice::from_ref(&prompt), &[])?.remove(0);
        assert_eq!(answer.len(), NEW_TOKENS);
        let text = [prompt.clone(), answer.clone()].concat();
        let predicted = most_likely(&model, &text, &positions(&[text.len()]));
        assert_eq!(predicted[prompt.len() - 1..text.len() - 1], answer);
    }
    Ok(())
}

#[test]
fn positions_that_are_off_by_one_after_the_prompt_give_another_text() -> anyhow::Result<()> {
    for model in models()? {
        let prompt = prompts(&model).swap_remove(2);
        let answer = greedy(&model, std::slice::from_ref(&prompt), &[])?.remove(0);
        let text = [prompt.clone(), answer.clone()].concat();
        // As if the cache had counted the prompt one token too long. A shift of all positions would change nothing.
        let late = |(i, position): (usize, u32)| position + u32::from(i >= prompt.len());
        let positions: Vec<u32> = positions(&[text.len()]).into_iter().enumerate().map(late).collect();
        let predicted = most_likely(&model, &text, &positions);
        assert_ne!(predicted[prompt.len() - 1..text.len() - 1], answer);
    }
    Ok(())
}

#[test]
fn each_row_of_a_ragged_batch_gets_what_it_gets_alone() -> anyhow::Result<()> {
    for model in models()? {
        let prompts = prompts(&model);
        let together = greedy(&model, &prompts, &[])?;
        for (prompt, answer) in prompts.iter().zip(&together) {
            assert_eq!(&greedy(&model, std::slice::from_ref(prompt), &[])?[0], answer, "{} tokens", prompt.len());
        }
    }
    Ok(())
}

#[test]
fn a_row_that_has_stopped_does_not_touch_the_others() -> anyhow::Result<()> {
    for model in models()? {
        let prompts = prompts(&model);
        let unstopped = greedy(&model, &prompts, &[])?;
        // A token of the first answer that comes late enough for the others to be cut elsewhere.
        let stop = unstopped[0][NEW_TOKENS / 3];
        for (answer, unstopped) in greedy(&model, &prompts, &[stop])?.iter().zip(&unstopped) {
            let end = unstopped.iter().position(|token| *token == stop).map_or(NEW_TOKENS, |at| at + 1);
            assert_eq!(answer, &unstopped[..end]);
        }
    }
    Ok(())
}

#[test]
fn rows_that_join_a_running_batch_get_what_they_get_alone() -> anyhow::Result<()> {
    for model in models()? {
        let prompts = prompts(&model);
        let generation = Generation { max_new_tokens: NEW_TOKENS, stop: Vec::new(), sampling: Sampling::default() };
        let (mut batch, mut rows) = (RunningBatch::new(&model), Vec::new());
        for step in 0.. {
            // The others are well on their way by then.
            if let Some(prompt) = (step % 11 == 0).then(|| prompts.get(step / 11)).flatten() {
                rows.push((batch.join(prompt.clone(), generation.clone())?, Vec::new()));
            }
            for token in batch.step() {
                rows.iter_mut().filter(|row| row.0 == token.row).for_each(|row| row.1.push(token.token));
            }
            if batch.rows() == 0 {
                break;
            }
        }
        assert_eq!(rows.len(), prompts.len());
        for (prompt, (_, answer)) in prompts.iter().zip(&rows) {
            assert_eq!(&greedy(&model, std::slice::from_ref(prompt), &[])?[0], answer, "{} tokens", prompt.len());
        }
    }
    Ok(())
}
