//! Rows written one after the other into a batch.

use crate::batch::{Batch, SegmentSpan};

/// Fills a batch from left to right, top to bottom.
pub(super) struct RowWriter {
    batch: Batch,
    padding: u32,
}

impl RowWriter {
    /// For `rows` rows; `padding` is the token of places without a pair.
    pub(super) fn new(rows: usize, sequence_length: usize, padding: u32) -> RowWriter {
        let tokens = rows * sequence_length;
        let batch = Batch {
            rows: 0,
            sequence_length,
            inputs: Vec::with_capacity(tokens),
            targets: Vec::with_capacity(tokens),
            positions: Vec::with_capacity(tokens),
            loss_mask: Vec::with_capacity(tokens),
            segments: Vec::new(),
        };
        RowWriter { batch, padding }
    }

    pub(super) fn sequence_length(&self) -> usize {
        self.batch.sequence_length
    }

    /// Adds a segment, whose row and start are set here, and its (input, target, whether the target counts).
    pub(super) fn push_segment(&mut self, span: SegmentSpan, pairs: impl Iterator<Item = (u32, u32, bool)>) {
        let (row, start) = (self.batch.rows, self.batch.inputs.len() - self.batch.rows * self.batch.sequence_length);
        self.batch.segments.push(SegmentSpan { row, start, ..span });
        for (position, (input, target, counts)) in (0..).zip(pairs) {
            self.push(input, target, position, counts);
        }
    }

    /// Pads the row to its length.
    pub(super) fn end_row(&mut self) {
        self.batch.rows += 1;
        while self.batch.inputs.len() < self.batch.rows * self.batch.sequence_length {
            self.push(self.padding, self.padding, 0, false);
        }
    }

    fn push(&mut self, input: u32, target: u32, position: u32, counts: bool) {
        self.batch.inputs.push(input);
        self.batch.targets.push(target);
        self.batch.positions.push(position);
        self.batch.loss_mask.push(counts);
    }

    pub(super) fn finish(self) -> Batch {
        self.batch
    }
}
