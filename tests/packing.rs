//! Segments that share a row do not see each other.

use limbeck_model::Transformer;

use crate::support::batches::positions;
use crate::support::devices::{cpu, places};
use crate::support::distance::{max_abs, values};
use crate::support::fixture::fixtures;
use crate::support::numbers::Numbers;

/// Lengths of the segments of a row.
const SEGMENTS: [usize; 4] = [1, 19, 8, 5];

fn row_logits(model: &Transformer, inputs: &[u32], positions: &[u32]) -> Vec<f32> {
    values(model.logits(inputs, positions, inputs.len()))
}

fn tokens(model: &Transformer) -> Vec<u32> {
    Numbers::new(3).tokens(SEGMENTS.iter().sum(), model.config().vocab_size)
}

/// A model of the fixtures, whose logits spread far: a leak of any size shows.
fn models() -> anyhow::Result<Vec<Transformer>> {
    fixtures()?.iter().map(|fixture| fixture.model(&cpu())).collect()
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
    for model in models()? {
        let tokens = tokens(&model);
        let packed = row_logits(&model, &tokens, &positions(&SEGMENTS));
        let mut start = 0;
        for length in SEGMENTS {
            let alone = row_logits(&model, &tokens[start..start + length], &positions(&[length]));
            let vocab_size = model.config().vocab_size;
            let distance = max_abs(&packed[start * vocab_size..(start + length) * vocab_size], &alone);
            // Rounding alone: the same products, summed over rows of another length.
            assert!(distance < 1e-5, "segment at {start}: {distance}");
            start += length;
        }
    }
    Ok(())
}

#[test]
fn other_tokens_in_one_segment_leave_the_others_bit_identical() -> anyhow::Result<()> {
    for model in models()? {
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
    for model in models()? {
        let tokens = tokens(&model);
        let packed = row_logits(&model, &tokens, &positions(&SEGMENTS));
        let causal = row_logits(&model, &tokens, &positions(&[tokens.len()]));
        let distance = max_abs(&causal, &packed);
        assert!(distance > 1e-3, "{distance}");
    }
    Ok(())
}
