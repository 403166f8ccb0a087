//! Batches whose tokens are drawn.

use limbeck_data::{Batch, SegmentSpan};

use crate::support::numbers::Numbers;

/// Rows of one document each: positions from 0, every target counts.
///
/// # Shapes
/// - `inputs`, `targets`: `[rows * sequence_length]`
pub(crate) fn batch(inputs: Vec<u32>, targets: Vec<u32>, sequence_length: usize) -> Batch {
    assert_eq!(inputs.len(), targets.len());
    let rows = inputs.len() / sequence_length;
    let span = |row| SegmentSpan {
        row,
        start: 0,
        length: sequence_length,
        entry: 0,
        document: row as u64,
        segment: 0,
        epoch: 0,
    };
    Batch {
        rows,
        sequence_length,
        positions: positions(&vec![sequence_length; rows]),
        loss_mask: vec![true; inputs.len()],
        segments: (0..rows).map(span).collect(),
        inputs,
        targets,
    }
}

/// Drawn documents, each predicting itself: a row's last target is a drawn token.
pub(crate) fn documents(seed: u64, rows: usize, sequence_length: usize, vocab_size: usize) -> Batch {
    let mut numbers = Numbers::new(seed);
    let tokens = numbers.tokens(rows * (sequence_length + 1), vocab_size);
    let documents = || tokens.chunks(sequence_length + 1);
    let inputs = documents().flat_map(|document| &document[..sequence_length]).copied().collect();
    let targets = documents().flat_map(|document| &document[1..]).copied().collect();
    batch(inputs, targets, sequence_length)
}

/// The position of each token in segments of `lengths`.
pub(crate) fn positions(lengths: &[usize]) -> Vec<u32> {
    lengths.iter().flat_map(|length| 0..*length as u32).collect()
}
