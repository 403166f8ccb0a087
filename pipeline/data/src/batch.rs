//! Rows of tokens, as the model and the loss read them.

/// Where a segment lies in a batch, and which one it is: the key of a teacher's cached row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SegmentSpan {
    /// Row of the batch.
    pub row: usize,
    /// Position in the row of the segment's first pair.
    pub start: usize,
    /// Pairs of (input, target).
    pub length: usize,
    /// Index of the data entry.
    pub entry: usize,
    /// Index of the document in the entry, counted over its files.
    pub document: u64,
    /// Index of the segment in the document: its first pair is `segment * sequence_length`.
    pub segment: u32,
    /// How often the run has been through the entry before.
    pub epoch: u64,
}

/// Rows of packed segments.
///
/// # Shapes
/// All vectors of tokens are row-major, `[rows, sequence_length]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Rows.
    pub rows: usize,
    /// Tokens in a row, padding included.
    pub sequence_length: usize,
    /// What the model reads.
    pub inputs: Vec<u32>,
    /// What it should predict: the token that follows in the document.
    pub targets: Vec<u32>,
    /// Offset from the start of the token's own segment. A query at `t` attends the keys `t - positions[t] ..= t`,
    /// which is the document mask: attention never crosses a segment. Padding has 0 and sees only itself.
    pub positions: Vec<u32>,
    /// Whether `targets[t]` counts.
    pub loss_mask: Vec<bool>,
    /// The segments, row by row, from left to right.
    pub segments: Vec<SegmentSpan>,
}

impl Batch {
    /// Targets that count, known before the forward pass: what a sum of losses is divided by.
    pub fn target_tokens(&self) -> usize {
        self.loss_mask.iter().filter(|counts| **counts).count()
    }

    /// The same rows in batches of `micro_batch_size`, the last one possibly smaller; 0 means all in one.
    pub fn micro_batches(&self, micro_batch_size: usize) -> Vec<Batch> {
        let size = if micro_batch_size == 0 { self.rows.max(1) } else { micro_batch_size };
        (0..self.rows).step_by(size).map(|first| self.row_range(first, (first + size).min(self.rows))).collect()
    }

    fn row_range(&self, first: usize, end: usize) -> Batch {
        let tokens = first * self.sequence_length..end * self.sequence_length;
        Batch {
            rows: end - first,
            sequence_length: self.sequence_length,
            inputs: self.inputs[tokens.clone()].to_vec(),
            targets: self.targets[tokens.clone()].to_vec(),
            positions: self.positions[tokens.clone()].to_vec(),
            loss_mask: self.loss_mask[tokens].to_vec(),
            segments: self
                .segments
                .iter()
                .filter(|span| (first..end).contains(&span.row))
                .map(|span| SegmentSpan { row: span.row - first, ..*span })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let (entry, segment, epoch) = (0, 0, 0);
        let span = |row, start, length, document| SegmentSpan { row, start, length, entry, document, segment, epoch };
        Batch {
            rows: 3,
            sequence_length: 5,
            inputs: (0..15).collect(),
            targets: (1..16).collect(),
            positions: vec![0, 1, 2, 0, 1, 0, 1, 2, 3, 4, 0, 1, 0, 0, 0],
            loss_mask: (0..15).map(|token| token % 5 < token / 5 + 1).collect(),
            segments: vec![span(0, 0, 3, 7), span(0, 3, 2, 4), span(1, 0, 5, 1), span(2, 0, 2, 9)],
        }
    }

    #[test]
    fn micro_batches_keep_rows_segments_and_target_tokens() {
        let whole = batch();
        let parts = whole.micro_batches(2);
        assert_eq!(parts.iter().map(|part| part.rows).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(whole.target_tokens(), 1 + 2 + 3);
        assert_eq!(parts.iter().map(Batch::target_tokens).collect::<Vec<_>>(), [3, 3]);
        assert_eq!(parts[1].inputs, [10, 11, 12, 13, 14]);
        assert_eq!(parts[1].segments.len(), 1);
        assert_eq!((parts[1].segments[0].row, parts[1].segments[0].document), (0, 9));
        assert_eq!(whole.micro_batches(0), [whole]);
    }
}
