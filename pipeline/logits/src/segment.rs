//! What is captured, and by which name it is found again.

use std::fmt;

/// The name of a segment: whatever batch, row or epoch it comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentKey {
    /// Index of the data entry.
    pub entry: u32,
    /// Index of the document in the entry.
    pub document: u64,
    /// Index of the segment in the document.
    pub segment: u32,
}

impl fmt::Display for SegmentKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SegmentKey { entry, document, segment } = self;
        write!(formatter, "entry `{entry}` document `{document}` segment `{segment}`")
    }
}

/// A teacher's logits for the targets of one segment.
///
/// # Shapes
/// - `positions`: `[targets]`
/// - `logits`: `[targets, vocab_size]`, row-major
#[derive(Clone, Copy, Debug)]
pub struct SegmentLogits<'a> {
    /// Which segment.
    pub key: SegmentKey,
    /// Pairs of (input, target) in it.
    pub length: u32,
    /// Offsets from its start of the pairs whose target counts, ascending.
    pub positions: &'a [u32],
    /// What the teacher says at each of them.
    pub logits: &'a [f32],
}

/// Which segment is wanted, and for which targets.
#[derive(Clone, Copy, Debug)]
pub struct SegmentRequest<'a> {
    /// Which segment.
    pub key: SegmentKey,
    /// How often the data was seen before: epoch `e` gets set `e` modulo the sets of the codec.
    pub epoch: u64,
    /// Of each pair in the segment, whether its target counts.
    pub targets: &'a [bool],
}
