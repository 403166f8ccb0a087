//! Segments that were decoded: a page holds several, which a shuffled training asks for one by one, and again in the next epoch.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::cache::Place;
use crate::targets::Segment;

/// What is kept at most, in bytes: the segments of about three million targets of 50 draws.
const MOST_BYTES: usize = 256_000_000;

/// The segments that were read last.
#[derive(Default)]
pub(crate) struct Kept {
    segments: HashMap<Place, Arc<Segment>>,
    /// In the order in which they came.
    order: VecDeque<Place>,
    bytes: usize,
}

impl Kept {
    pub(crate) fn get(&self, place: &Place) -> Option<Arc<Segment>> {
        self.segments.get(place).cloned()
    }

    /// Keeps `segment`; those that came first make room. Not every logit: they take more memory than reading them takes time.
    pub(crate) fn put(&mut self, place: Place, segment: &Arc<Segment>) {
        if segment.is_dense() {
            return;
        }
        if self.segments.insert(place, Arc::clone(segment)).is_some() {
            return;
        }
        self.order.push_back(place);
        self.bytes += segment.bytes();
        while self.bytes > MOST_BYTES {
            let Some(first) = self.order.pop_front() else { return };
            self.bytes -= self.segments.remove(&first).map_or(0, |segment| segment.bytes());
        }
    }
}
