//! Documents cut into pieces that fit a row.

/// A piece of a document: `length` pairs of (input, target), the first being `segment * sequence_length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Index in the entry.
    pub(crate) document: u64,
    /// Index in the document.
    pub(crate) segment: u32,
    /// Pairs, at least 1.
    pub(crate) length: u32,
}

/// Cuts the pairs of a document at multiples of `sequence_length` from its start, so that a segment's content depends
/// on nothing but the document. A document that fits is one segment.
pub(crate) fn cut(document: u64, pairs: u64, sequence_length: u32) -> impl Iterator<Item = Segment> {
    let length = u64::from(sequence_length);
    (0..pairs.div_ceil(length)).map(move |segment| Segment {
        document,
        segment: segment as u32,
        length: (pairs - segment * length).min(length) as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_at_multiples_from_the_start() {
        let lengths = |pairs| cut(3, pairs, 5).map(|segment| segment.length).collect::<Vec<_>>();
        assert_eq!(lengths(0), [0; 0]);
        assert_eq!(lengths(4), [4]);
        assert_eq!(lengths(5), [5]);
        assert_eq!(lengths(11), [5, 5, 1]);
        assert_eq!(cut(3, 11, 5).last(), Some(Segment { document: 3, segment: 2, length: 1 }));
    }
}
