//! Rows that are made up.

use limbeck_data::{Batch, SegmentSpan};

use crate::bench::shape::Shape;

/// The rows of step `step`, counted from 1: each a document of its own, in which four tokens may follow a token.
///
/// A function of the step and the shape that any program can compute, in 32-bit integers that wrap around: row `r` begins
/// in state `2654435761 · (step · rows + r)` with the token `state mod vocab_size`. For every further token the
/// state becomes `1664525 · state + 1013904223` (Press et al., Numerical Recipes, section 7.1), and the token becomes
/// `5 · token + 17 + ⌊state / 2³⁰⌋ mod vocab_size`.
pub fn batch(shape: &Shape, step: u64) -> Batch {
    let (rows, sequence_length) = (shape.rows, shape.sequence_length);
    let documents: Vec<Vec<u32>> = (0..rows)
        .map(|row| document(step * rows as u64 + row as u64, sequence_length + 1, shape.config.vocab_size))
        .collect();
    let (entry, segment, epoch) = (0, 0, 0);
    let span =
        |row| SegmentSpan { row, start: 0, length: sequence_length, entry, document: row as u64, segment, epoch };
    Batch {
        rows,
        sequence_length,
        inputs: documents.iter().flat_map(|document| &document[..sequence_length]).copied().collect(),
        targets: documents.iter().flat_map(|document| &document[1..]).copied().collect(),
        positions: (0..rows).flat_map(|_| 0..sequence_length as u32).collect(),
        loss_mask: vec![true; rows * sequence_length],
        segments: (0..rows).map(span).collect(),
    }
}

fn document(number: u64, length: usize, vocab_size: usize) -> Vec<u32> {
    let vocab_size = vocab_size as u64;
    let mut state = (number as u32).wrapping_mul(2_654_435_761);
    let first = u64::from(state) % vocab_size;
    let tokens = std::iter::successors(Some(first), |token| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((5 * token + 17 + u64::from(state >> 30)) % vocab_size)
    });
    tokens.take(length).map(|token| token as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::shape::BenchModel;

    #[test]
    fn tokens_are_those_of_the_formula() {
        // For a vocabulary of 59: 2654435761 mod 59 = 37. The next state is 1107666780, whose upper two bits are 1:
        // (5·37 + 17 + 1) mod 59 = 26; then 795024139, 0: (5·26 + 17) mod 59 = 29; then 3310400750, 3: 165 mod 59 = 47.
        assert_eq!(document(1, 4, 59), [37, 26, 29, 47]);
        assert_eq!(document(0, 2, 59), [0, 17]);
    }

    #[test]
    fn targets_follow_their_inputs_and_steps_differ() {
        let shape = BenchModel::Tiny.shape();
        let first = batch(&shape, 1);
        assert_eq!(first.target_tokens(), shape.tokens());
        for row in first.inputs.chunks(22).zip(first.targets.chunks(22)) {
            assert_eq!(row.0[1..], row.1[..21]);
        }
        assert_eq!(first, batch(&shape, 1));
        assert_ne!(first.inputs, batch(&shape, 2).inputs);
    }
}
