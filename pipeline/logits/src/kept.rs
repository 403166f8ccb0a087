//! Segments that were decoded: a page holds several, which a shuffled training asks for one by one, and again in the next epoch.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::cache::Place;
use crate::targets::Segment;

/// What a cache keeps at most, in bytes.
const MOST_BYTES: usize = 256_000_000;

/// The segments that were read last.
pub(crate) struct Kept {
    most_bytes: usize,
    segments: HashMap<Place, Arc<Segment>>,
    /// In the order in which they came, with their sizes.
    order: VecDeque<(Place, usize)>,
    bytes: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { most_bytes: MOST_BYTES, segments: HashMap::new(), order: VecDeque::new(), bytes: 0 }
    }
}

impl Kept {
    pub(crate) fn get(&self, place: &Place) -> Option<Arc<Segment>> {
        self.segments.get(place).cloned()
    }

    /// Keeps `segment`, if it is worth it; those that came first make room.
    pub(crate) fn put(&mut self, place: Place, segment: &Arc<Segment>) {
        let Some(bytes) = segment.bytes_if_worth_keeping() else { return };
        if self.segments.insert(place, Arc::clone(segment)).is_some() {
            return;
        }
        self.order.push_back((place, bytes));
        self.bytes += bytes;
        while self.bytes > self.most_bytes {
            let Some((first, bytes)) = self.order.pop_front() else { return };
            self.segments.remove(&first);
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::{CachedTargets, DenseTargets, SparseTargets};

    #[test]
    fn those_that_came_first_make_room() {
        let segment = Arc::new(Segment::of(vec![0], CachedTargets::Sparse(SparseTargets::default())));
        let bytes = segment.bytes_if_worth_keeping().expect("sparse");
        let mut kept = Kept { most_bytes: 2 * bytes, ..Kept::default() };
        // The first one twice: it is counted once.
        for row in [0, 0, 1, 2] {
            kept.put((7, row), &segment);
        }
        let there = |row| kept.get(&(7, row)).is_some();
        assert_eq!([0, 1, 2].map(there), [false, true, true]);
        assert_eq!((kept.bytes, kept.order.len(), kept.segments.len()), (2 * bytes, 2, 2));
    }

    #[test]
    fn every_logit_is_not_kept() {
        let mut kept = Kept::default();
        kept.put((0, 0), &Arc::new(Segment::of(vec![0], CachedTargets::Dense(DenseTargets::default()))));
        assert!(kept.get(&(0, 0)).is_none());
    }
}
