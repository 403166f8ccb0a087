use burn::tensor::Device;
use limbeck_config::{Architecture, ModelConfig};
use limbeck_model::{Generation, Sampling, generate};

use super::*;

const VOCAB_SIZE: usize = 43;

fn model(seed: u64) -> Transformer {
    let config = ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size: VOCAB_SIZE,
        hidden_size: 22,
        intermediate_size: 34,
        num_hidden_layers: 2,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        // Tied, every random model says the last token again and again.
        tie_word_embeddings: false,
        max_position_embeddings: 128,
    };
    Transformer::new(&config, seed, &Device::flex())
}

/// So sharp that two random models disagree.
const TEMPERATURE: f64 = 0.08;

fn said(model: &Transformer, temperature: f64, rows: usize) -> (Vec<u32>, Vec<Vec<u32>>) {
    let prompt = vec![1, 30, 7, 19, 2];
    let sampling = Sampling { temperature, seed: 3, ..Sampling::default() };
    let generation = Generation { max_new_tokens: 60, stop: Vec::new(), sampling };
    let answers = generate(model, &vec![prompt.clone(); rows], &generation, |_, _| ()).unwrap();
    (prompt, answers)
}

/// Softmax in 64 bits of the last row of the logits of a text.
fn distribution(model: &Transformer, text: &[u32]) -> Vec<f64> {
    let positions: Vec<u32> = (0..text.len() as u32).collect();
    let logits: Vec<f32> = model.logits(text, &positions, text.len()).into_data().try_into_vec().unwrap();
    let weights: Vec<f64> =
        logits[(text.len() - 1) * VOCAB_SIZE..].iter().map(|logit| (f64::from(*logit) / TEMPERATURE).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

#[test]
fn chances_are_the_overlap_of_the_distributions() {
    let (target, draft) = (model(1), model(2));
    let (prompt, answers) = said(&target, TEMPERATURE, 1);
    let found = chances(&target, &draft, &prompt, &answers[0], TEMPERATURE);
    assert_eq!(found.len(), 60);
    for (index, (chance, token)) in found.iter().zip(&answers[0]).enumerate() {
        let text = [&prompt[..], &answers[0][..index]].concat();
        let (p, q) = (distribution(&target, &text), distribution(&draft, &text));
        let overlap: f64 = p.iter().zip(&q).map(|(p, q)| p.min(*q)).sum();
        let ratio = (q[*token as usize] / p[*token as usize]).min(1.0);
        // 32-bit logits over 0.08: an error of 1e-7 of the largest, which is about 1, becomes 1e-6.
        assert!((chance.of_any - overlap).abs() < 1e-5, "{index}: {} {overlap}", chance.of_any);
        assert!((chance.of_this - ratio).abs() < 1e-5 + 1e-4 * ratio, "{index}: {} {ratio}", chance.of_this);
    }
}

/// The rule of the paper as it stands, with draws: x from q, kept with probability p/q, else one from max(0, p - q).
#[test]
fn accepted_drafts_and_what_is_emitted_are_as_often_as_chances_say() {
    let (target, draft) = (model(1), model(2));
    let text = [1, 30, 7, 19, 2, 5];
    let (p, q) = (distribution(&target, &text), distribution(&draft, &text));
    let overlap: f64 = p.iter().zip(&q).map(|(p, q)| p.min(*q)).sum();
    let mut random = limbeck_random::Stream::new(11);
    let mut draw = |weights: &[f64]| {
        let mut rest = random.uniform() * weights.iter().sum::<f64>();
        let place = weights.iter().position(|weight| {
            rest -= weight;
            rest < 0.0
        });
        (place.unwrap_or(weights.len() - 1), random.uniform())
    };
    let correction: Vec<f64> = p.iter().zip(&q).map(|(p, q)| (p - q).max(0.0)).collect();
    let (mut accepted, mut emitted, mut accepted_of) = (0.0, vec![0.0; VOCAB_SIZE], vec![0.0; VOCAB_SIZE]);
    let rounds = 40_000;
    for _ in 0..rounds {
        let (x, uniform) = draw(&q);
        let kept = uniform < p[x] / q[x];
        let token = if kept { x } else { draw(&correction).0 };
        accepted += f64::from(u8::from(kept));
        emitted[token] += 1.0;
        accepted_of[token] += f64::from(u8::from(kept));
    }
    // Five standard errors of a proportion over 40,000 draws: at most 0.0125.
    assert!((accepted / f64::from(rounds) - overlap).abs() < 0.0125, "{accepted} {overlap}");
    assert!((0.02..0.98).contains(&overlap), "there is something to see: {overlap}");
    for token in 0..VOCAB_SIZE {
        assert!((emitted[token] / f64::from(rounds) - p[token]).abs() < 0.0125);
        let both = p[token] * (q[token] / p[token]).min(1.0);
        assert!((accepted_of[token] / f64::from(rounds) - both).abs() < 0.0125);
    }
}

#[test]
fn a_target_accepts_all_of_its_own_drafts_and_few_of_another_model() {
    let (target, draft) = (model(1), model(2));
    for temperature in [0.0, TEMPERATURE] {
        let (prompt, answers) = said(&target, temperature, 6);
        let of_all = |draft: &Transformer| -> Vec<Chance> {
            answers.iter().flat_map(|answer| chances(&target, draft, &prompt, answer, temperature)).collect()
        };
        // Sums of 43 probabilities in 32 bits.
        assert!(of_all(&target).iter().all(|chance| chance.of_this == 1.0 && chance.of_any > 1.0 - 1e-5));
        let others = of_all(&draft);
        let mean = others.iter().map(|chance| chance.of_any).sum::<f64>() / others.len() as f64;
        assert!(mean < 0.5, "{mean}");
    }
}

#[test]
fn greedy_blocks_are_the_longest_agreeing_prefixes() {
    // By hand, three drafts a block: `yes yes yes +1`, `no`, `yes no`, `yes yes`, cut off by the end.
    let agrees = [1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0];
    let mut blocks = Blocks::default();
    blocks.add(&agrees, 3);
    assert_eq!(blocks, Blocks { blocks: 4.0, accepted: 6.0, tokens: 9.0 });
    assert_eq!((blocks.tokens_per_block(), blocks.accepted_per_block()), (2.25, 1.5));
}

#[test]
fn blocks_of_equal_chances_have_the_length_of_the_paper() {
    for (acceptance, draft_tokens) in [(0.0, 4), (0.3, 1), (0.7, 4), (0.9, 7), (1.0, 5)] {
        let mut blocks = Blocks::default();
        blocks.add(&vec![acceptance; 60_000], draft_tokens);
        let expected = expected_tokens(acceptance, draft_tokens);
        // Of 60,000 tokens the last block alone is cut off.
        assert!((blocks.tokens_per_block() - expected).abs() < 1e-3, "{acceptance} {draft_tokens}");
        assert!((blocks.accepted_per_block() - (expected - 1.0)).abs() < 1e-3, "{acceptance} {draft_tokens}");
        if acceptance < 1.0 {
            let quotient = (1.0 - f64::powi(acceptance, draft_tokens as i32 + 1)) / (1.0 - acceptance);
            assert!((expected - quotient).abs() < 1e-12);
        }
    }
    // Table 1 of the paper: with drafts that cost nothing, 1.96 times for α = 0.6 and γ = 2, 3.69 times for 0.8 and 5.
    let speed = |acceptance, draft_tokens| speed_up(expected_tokens(acceptance, draft_tokens), draft_tokens, 0.0);
    assert!((speed(0.6, 2) - 1.96).abs() < 0.005 && (speed(0.8, 5) - 3.69).abs() < 0.005);
    assert!((speed_up(3.0, 4, 0.05) - 2.5).abs() < 1e-12);
}
