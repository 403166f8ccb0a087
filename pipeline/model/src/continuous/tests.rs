use burn::tensor::Device;
use limbeck_config::{Architecture, ModelConfig};

use super::*;
use crate::sampling::Sampling;

const VOCAB_SIZE: usize = 53;

fn model() -> Transformer {
    let config = ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size: VOCAB_SIZE,
        hidden_size: 22,
        intermediate_size: 34,
        num_hidden_layers: 3,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
        max_position_embeddings: 640,
    };
    Transformer::new(&config, 6, &Device::flex())
}

fn prompt(row: usize, length: usize) -> Vec<u32> {
    (0..length).map(|index| ((row * 13 + index * index * 7 + index) % VOCAB_SIZE) as u32).collect()
}

/// So flat that every draw hangs on the last bits of few logits.
fn generation(seed: u64, max_new_tokens: usize) -> Generation {
    let sampling = Sampling { temperature: 1.0, seed, ..Sampling::default() };
    Generation { max_new_tokens, stop: Vec::new(), sampling }
}

/// Logits of ten tokens after each prompt, all rows of a step in one pass.
fn logits(model: &Transformer, prompts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let device = model.device();
    let new = |prompt: &Vec<u32>| Cache::new(model.config(), vec![0], prompt.len() + 10, &device);
    let mut caches: Vec<Cache> = prompts.iter().map(new).collect();
    for (prompt, cache) in prompts.iter().zip(&mut caches) {
        model.next_logits(prompt, prompt.len(), cache);
    }
    let mut all = vec![Vec::new(); prompts.len()];
    for step in 0..10 {
        let inputs: Vec<u32> = prompts.iter().map(|prompt| (prompt[0] + step) % VOCAB_SIZE as u32).collect();
        let logits = model.next_logits_each(&inputs, &mut caches.iter_mut().collect::<Vec<_>>());
        let logits: Vec<f32> = logits.into_data().try_into_vec().unwrap();
        all.iter_mut().zip(logits.chunks(VOCAB_SIZE)).for_each(|(all, logits)| all.extend(logits));
    }
    all
}

#[test]
fn a_row_has_the_bits_that_it_has_alone() {
    let model = model();
    let prompts: Vec<Vec<u32>> = (0..9).map(|row| prompt(row, 1 + row * 5)).collect();
    let together = logits(&model, &prompts);
    for (prompt, together) in prompts.iter().zip(&together) {
        let alone = logits(&model, std::slice::from_ref(prompt)).remove(0);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(together), bits(&alone), "{} tokens", prompt.len());
    }
}

fn alone(model: &Transformer, prompt: &[u32], generation: &Generation) -> Vec<u32> {
    let mut batch = RunningBatch::new(model);
    batch.join(prompt.to_vec(), generation.clone()).unwrap();
    let mut answer = Vec::new();
    while batch.rows() > 0 {
        answer.extend(batch.step().iter().map(|token| token.token));
    }
    answer
}

#[test]
fn rows_that_come_and_go_draw_what_they_draw_alone() {
    let model = model();
    // One is read in three pieces, while others speak.
    let rows: Vec<(Vec<u32>, Generation)> = [(3, 40), (600, 30), (17, 1), (1, 25), (258, 9), (44, 70)]
        .into_iter()
        .enumerate()
        .map(|(row, (length, new))| (prompt(row, length), generation(row as u64, new)))
        .collect();
    let mut batch = RunningBatch::new(&model);
    let mut answers: Vec<(Joined, Vec<u32>, Option<Ended>)> = Vec::new();
    let mut waiting = rows.iter().cloned();
    for step in 0..200 {
        if step % 3 == 0
            && let Some((prompt, generation)) = waiting.next()
        {
            answers.push((batch.join(prompt, generation).unwrap(), Vec::new(), None));
        }
        for token in batch.step() {
            let answer = answers.iter_mut().find(|answer| answer.0 == token.row).unwrap();
            assert_eq!(answer.2, None, "nothing comes after the end");
            answer.1.push(token.token);
            answer.2 = token.ended;
        }
    }
    assert_eq!(batch.rows(), 0);
    for ((prompt, generation), (_, answer, ended)) in rows.iter().zip(&answers) {
        assert_eq!((answer.len(), *ended), (generation.max_new_tokens, Some(Ended::Length)));
        assert_eq!(answer, &alone(&model, prompt, generation));
    }
}

#[test]
fn a_short_prompt_does_not_wait_for_a_long_one() {
    let mut batch = RunningBatch::new(&model());
    let long = batch.join(prompt(1, 600), generation(1, 3)).unwrap();
    assert!(batch.step().is_empty(), "a piece of three");
    let short = batch.join(prompt(2, 5), generation(2, 9)).unwrap();
    let first = |row: Joined| move |tokens: &Vec<NewToken>| tokens.iter().any(|token| token.row == row);
    let steps: Vec<Vec<NewToken>> = (0..9).map(|_| batch.step()).collect();
    assert_eq!(steps.iter().position(first(short)), Some(0));
    assert_eq!(steps.iter().position(first(long)), Some(1), "and the long one goes on beside it");
}

#[test]
fn a_row_that_leaves_says_nothing_more_and_the_others_go_on() {
    let model = model();
    let mut batch = RunningBatch::new(&model);
    let [gone, stays] = [1, 2].map(|row| batch.join(prompt(row, 9), generation(row as u64, 12)).unwrap());
    let mut answer: Vec<u32> =
        (0..4).flat_map(|_| batch.step()).filter(|new| new.row == stays).map(|new| new.token).collect();
    batch.leave(gone);
    while batch.rows() > 0 {
        for token in batch.step() {
            assert_eq!(token.row, stays);
            answer.push(token.token);
        }
    }
    assert_eq!(answer, alone(&model, &prompt(2, 9), &generation(2, 12)));
}

#[test]
fn a_row_ends_at_a_stop_token_and_where_the_context_does() {
    let model = model();
    let mut batch = RunningBatch::new(&model);
    // 630 of 640: ten tokens, whatever is asked for.
    let full = batch.join(prompt(3, 630), generation(1, 1000)).unwrap();
    let unstopped = alone(&model, &prompt(4, 5), &generation(2, 30));
    let stop = vec![unstopped[8]];
    let stopped = batch.join(prompt(4, 5), Generation { stop: stop.clone(), ..generation(2, 30) }).unwrap();
    let mut answers = [Vec::new(), Vec::new()];
    let mut ended = [None; 2];
    while batch.rows() > 0 {
        for token in batch.step() {
            let place = usize::from(token.row == stopped);
            answers[place].push(token.token);
            ended[place] = token.ended;
        }
    }
    assert_eq!((answers[0].len(), ended), (10, [Some(Ended::Length), Some(Ended::Stop)]));
    let end = unstopped.iter().position(|token| stop.contains(token)).unwrap();
    assert_eq!(answers[1], unstopped[..=end]);
    assert_ne!(full, stopped);
}

#[test]
fn prompts_that_cannot_be_answered_are_refused() {
    let mut batch = RunningBatch::new(&model());
    for (prompt, problem) in [(vec![], "is empty"), (prompt(0, 640), "has `640` tokens"), (vec![53], "token `53`")] {
        let error = batch.join(prompt, generation(0, 1)).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    assert_eq!(batch.rows(), 0);
}
