//! Segments that share a row do not see each other.

use limbeck_config::{Architecture, OptimizerSection};
use limbeck_model::Transformer;
use limbeck_train::{AdamW, NextToken, Trainer};

use crate::support::batches::{documents, positions};
use crate::support::devices::{cpu, places};
use crate::support::distance::{max_abs, values};
use crate::support::fixture::fixtures;
use crate::support::models::small;
use crate::support::numbers::Numbers;

/// Lengths of the segments of a row.
const SEGMENTS: [usize; 4] = [1, 19, 8, 5];

fn row_logits(model: &Transformer, inputs: &[u32], positions: &[u32]) -> Vec<f32> {
    values(model.logits(inputs, positions, inputs.len()))
}

fn tokens(model: &Transformer) -> Vec<u32> {
    Numbers::new(3).tokens(SEGMENTS.iter().sum(), model.config().vocab_size)
}

/// The fixtures' models: matrices drawn large, so that a leak of any size shows, and rounding too.
fn drawn_models() -> anyhow::Result<Vec<Transformer>> {
    fixtures()?.iter().map(|fixture| fixture.model(&cpu())).collect()
}

/// Models with the weights of training.
fn trained_models() -> anyhow::Result<Vec<Transformer>> {
    [Architecture::Qwen3, Architecture::Llama].into_iter().map(trained_model).collect()
}

fn trained_model(architecture: Architecture) -> anyhow::Result<Transformer> {
    let config = small(architecture);
    let model = Transformer::new(&config, 5, &cpu().autodiff());
    let mut trainer = Trainer::new(model, AdamW::new(&OptimizerSection::new(3e-3))?);
    for step in 1..=100 {
        let batch = documents(step % 4, 3, 41, config.vocab_size);
        (trainer, _) = trainer.step(&NextToken, &[batch], step, 1.0)?;
    }
    Ok(trainer.model.without_autodiff())
}

/// The largest difference between a segment's logits in a packed row and alone, for each segment.
fn distances(model: &Transformer) -> Vec<f64> {
    let (tokens, vocab_size) = (tokens(model), model.config().vocab_size);
    let packed = row_logits(model, &tokens, &positions(&SEGMENTS));
    let mut start = 0;
    let distance = |length: usize| {
        let alone = row_logits(model, &tokens[start..start + length], &positions(&[length]));
        let distance = max_abs(&packed[start * vocab_size..][..length * vocab_size], &alone);
        start += length;
        distance
    };
    SEGMENTS.into_iter().map(distance).collect()
}

#[test]
fn a_packed_row_has_the_logits_of_transformers_for_each_segment_alone() -> anyhow::Result<()> {
    for place in places()? {
        for fixture in fixtures()? {
            let model = fixture.model(&place.device)?;
            let logits = row_logits(&model, &fixture.ids("packed.inputs"), &fixture.ids("packed.positions"));
            let distance = max_abs(&logits, &fixture.tensor("packed.logits").values);
            assert!(distance < if place.is_cpu { 1e-4 } else { 1e-3 }, "{}: {distance}", place.name);
        }
    }
    Ok(())
}

#[test]
fn packed_segments_have_the_logits_of_each_alone() -> anyhow::Result<()> {
    for model in trained_models()? {
        // Rounding alone: the same products, but short rows and few tokens are summed in another order.
        let distances = distances(&model);
        assert!(distances.iter().all(|distance| *distance < 1e-5), "{distances:?}");
    }
    Ok(())
}

#[test]
fn packed_segments_of_models_with_large_matrices_differ_by_rounding_alone() -> anyhow::Result<()> {
    for model in drawn_models()? {
        let logits = row_logits(&model, &tokens(&model), &positions(&SEGMENTS));
        let largest = max_abs(&logits, &vec![0.0; logits.len()]);
        // Three blocks of matrices that stretch threefold: float32 itself is off by 1e-5 here (`float32_differs_by`),
        // so the bound goes by the largest logit, about 7.
        let distances = distances(&model);
        assert!(distances.iter().all(|distance| *distance < 1e-5 * largest), "{distances:?} of {largest}");
    }
    Ok(())
}

#[test]
fn other_tokens_in_one_segment_leave_the_others_bit_identical() -> anyhow::Result<()> {
    for model in drawn_models()? {
        let tokens = tokens(&model);
        let vocab_size = model.config().vocab_size;
        let before = row_logits(&model, &tokens, &positions(&SEGMENTS));
        let mut start = 0;
        for length in SEGMENTS {
            let mut changed = tokens.clone();
            changed[start..start + length].iter_mut().for_each(|token| *token = (*token + 7) % vocab_size as u32);
            let after = row_logits(&model, &changed, &positions(&SEGMENTS));
            let own = start * vocab_size..(start + length) * vocab_size;
            let bits = |logits: &[f32]| logits.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&before[..own.start]), bits(&after[..own.start]), "before the segment at {start}");
            assert_eq!(bits(&before[own.end..]), bits(&after[own.end..]), "after the segment at {start}");
            assert_ne!(bits(&before[own.clone()]), bits(&after[own]), "the segment at {start} itself");
            start += length;
        }
    }
    Ok(())
}

#[test]
fn merely_causal_positions_give_other_logits() -> anyhow::Result<()> {
    for model in drawn_models()? {
        let tokens = tokens(&model);
        let packed = row_logits(&model, &tokens, &positions(&SEGMENTS));
        let causal = row_logits(&model, &tokens, &positions(&[tokens.len()]));
        let distance = max_abs(&causal, &packed);
        assert!(distance > 1e-3, "{distance}");
    }
    Ok(())
}
