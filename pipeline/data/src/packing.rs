//! Segments packed into rows.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use limbeck_random::mix;

use crate::segment::Segment;

/// Rows of segments, none longer than the sequence; a function of the segments and the length alone.
#[derive(Debug, Default)]
pub(crate) struct PackedRows {
    /// Row after row.
    segments: Vec<Segment>,
    /// Where each row begins in `segments`, and the end.
    starts: Vec<usize>,
}

impl PackedRows {
    /// Best-fit decreasing (Johnson 1973; for packing documents Ding et al. 2024, arXiv:2404.10830): the longest first,
    /// each into the fullest row that still has room. Segments of one length come in a scrambled order, because
    /// neighbours in a corpus are alike and would share rows.
    ///
    /// # Panics
    /// A segment that is longer than the row, which [`crate::segment::cut`] does not make.
    pub(crate) fn pack(mut segments: Vec<Segment>, sequence_length: u32) -> PackedRows {
        segments.sort_unstable_by_key(|segment| {
            let scrambled = mix(&[segment.document, u64::from(segment.segment)]);
            (Reverse(segment.length), scrambled, segment.document, segment.segment)
        });
        let mut room: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let mut row_of = Vec::with_capacity(segments.len());
        let mut sizes: Vec<usize> = Vec::new();
        for segment in &segments {
            assert!(segment.length <= sequence_length, "segments are cut to fit");
            let (row, left) = match take_fullest(&mut room, segment.length) {
                Some((row, left)) => (row, left),
                None => {
                    sizes.push(0);
                    (sizes.len() - 1, sequence_length)
                }
            };
            sizes[row] += 1;
            row_of.push(row);
            if left > segment.length {
                room.entry(left - segment.length).or_default().push(row);
            }
        }
        PackedRows::gather(&segments, &row_of, &sizes)
    }

    fn gather(segments: &[Segment], row_of: &[usize], sizes: &[usize]) -> PackedRows {
        let mut starts = Vec::with_capacity(sizes.len() + 1);
        starts.push(0);
        starts.extend(sizes.iter().scan(0, |end, size| {
            *end += size;
            Some(*end)
        }));
        let mut next = starts.clone();
        let mut gathered = segments.to_vec();
        for (segment, row) in segments.iter().zip(row_of) {
            gathered[next[*row]] = *segment;
            next[*row] += 1;
        }
        PackedRows { segments: gathered, starts }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// The segments of a row, from left to right.
    pub(crate) fn row(&self, row: usize) -> &[Segment] {
        &self.segments[self.starts[row]..self.starts[row + 1]]
    }

    /// All segments, row after row.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

/// The row with the least room that is enough, and its room.
fn take_fullest(room: &mut BTreeMap<u32, Vec<usize>>, length: u32) -> Option<(usize, u32)> {
    let (&left, rows) = room.range_mut(length..).next()?;
    let row = rows.pop()?;
    if rows.is_empty() {
        room.remove(&left);
    }
    Some((row, left))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::segment::cut;

    fn rows_of(packed: &PackedRows) -> Vec<Vec<u32>> {
        (0..packed.len()).map(|row| packed.row(row).iter().map(|segment| segment.length).collect()).collect()
    }

    #[test]
    fn each_goes_into_the_fullest_row_with_room() {
        // By hand: 7, 6 and 5 open rows with 3, 4 and 5 left; 4 fits where 4 is left; 3, 2, then 2 where 3 was left.
        let lengths = [2u64, 7, 3, 5, 6, 4, 2];
        let segments = lengths.iter().zip(0..).flat_map(|(pairs, document)| cut(document, *pairs, 10)).collect();
        assert_eq!(rows_of(&PackedRows::pack(segments, 10)), [vec![7, 3], vec![6, 4], vec![5, 2, 2]]);
    }

    proptest! {
        #[test]
        fn every_pair_is_packed_once_and_rows_are_full(
            pairs in prop::collection::vec(0u64..70, 0..60),
            sequence_length in 1u32..33,
        ) {
            let segments: Vec<_> =
                pairs.iter().zip(0..).flat_map(|(pairs, document)| cut(document, *pairs, sequence_length)).collect();
            let packed = PackedRows::pack(segments.clone(), sequence_length);
            let mut seen = HashSet::new();
            for segment in packed.segments() {
                for offset in 0..u64::from(segment.length) {
                    let pair = u64::from(segment.segment) * u64::from(sequence_length) + offset;
                    prop_assert!(seen.insert((segment.document, pair)));
                }
            }
            prop_assert_eq!(seen.len() as u64, pairs.iter().sum::<u64>());
            prop_assert!(seen.iter().all(|(document, pair)| *pair < pairs[*document as usize]));
            let used: Vec<u32> = rows_of(&packed).iter().map(|row| row.iter().sum()).collect();
            prop_assert!(used.iter().all(|used| (1..=sequence_length).contains(used)));
            // Two rows that are half empty could have been one.
            prop_assert!(used.iter().filter(|used| *used * 2 <= sequence_length).count() <= 1);
            // The order in which segments come makes no difference.
            let backwards = PackedRows::pack(segments.into_iter().rev().collect(), sequence_length);
            prop_assert_eq!(packed.segments(), backwards.segments());
        }
    }
}
