//! Choosing the next token.

use std::cmp::Ordering;

use limbeck_kernels::exp;
use limbeck_random::{Stream, mix};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Only this many of the most likely tokens.
    pub top_k: Option<usize>,
    /// Only the most likely tokens that together reach this probability (Holtzman et al. 2020, arXiv:1904.09751).
    pub top_p: f64,
    /// Row `i`'s token `n` is drawn from (seed, i, n) alone.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: None, top_p: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// The same with draws of their own: another seed, a function of this one and `index`.
    pub fn stream(self, index: u64) -> Self {
        Self { seed: mix(&[self.seed, index]), ..self }
    }

    /// The token for `logits`, the `index`-th of `row`.
    pub(crate) fn choose(&self, logits: &[f32], row: usize, index: usize) -> u32 {
        if self.temperature == 0.0 {
            return greedy(logits);
        }
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: &f32| exp((f64::from(logit - largest) / self.temperature) as f32);
        let weights: Vec<f32> = logits.iter().map(weight).collect();
        let weights = weights.into_iter().map(f64::from);
        let draw = uniform(self.seed, row, index);
        if self.top_k.is_none() && self.top_p >= 1.0 {
            // In the order of the ids: nothing has to be sorted.
            return drawn(draw, &weights.enumerate().map(|(id, weight)| (id as u32, weight)).collect::<Vec<_>>());
        }
        let mut candidates: Vec<(u32, f64)> = (0..).zip(weights).collect();
        keep_largest(&mut candidates, self.top_k.unwrap_or(usize::MAX));
        drawn(draw, nucleus(&mut candidates, self.top_p))
    }
}

/// Descending, ties in the order of their ids, so that the choice does not depend on the sort.
fn descending(a: &(u32, f64), b: &(u32, f64)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Drops all but the `count` largest, at least one.
fn keep_largest(candidates: &mut Vec<(u32, f64)>, count: usize) {
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count.max(1) - 1, descending);
        candidates.truncate(count.max(1));
    }
}

/// The largest that together reach `share` of the sum of all, in descending order. Few of many do as a rule, so that no
/// more than those are sorted.
fn nucleus(candidates: &mut [(u32, f64)], share: f64) -> &[(u32, f64)] {
    // In the order of the ids: a selection leaves another one.
    candidates.sort_unstable_by_key(|(id, _)| *id);
    let reached = share * candidates.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut sorted = 64;
    loop {
        sorted = sorted.min(candidates.len());
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted - 1, descending);
        }
        candidates[..sorted].sort_unstable_by(descending);
        let mut kept = 0.0;
        let enough = candidates[..sorted].iter().position(|(_, weight)| {
            kept += weight;
            kept >= reached
        });
        match enough {
            Some(last) => return &candidates[..=last],
            None if sorted == candidates.len() => return candidates,
            None => sorted *= 8,
        }
    }
}

/// The id at which the cumulative weights pass `draw`, of \[0, 1), times their sum.
fn drawn(draw: f64, candidates: &[(u32, f64)]) -> u32 {
    let mut rest = draw * candidates.iter().map(|(_, weight)| weight).sum::<f64>();
    for (id, weight) in candidates {
        rest -= weight;
        if rest < 0.0 {
            return *id;
        }
    }
    candidates.last().map_or(0, |(id, _)| *id)
}

/// The most likely token, the first of equals.
fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// In [0, 1), a function of the three numbers.
fn uniform(seed: u64, row: usize, index: usize) -> f64 {
    Stream::new(mix(&[seed, row as u64, index as u64])).uniform()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [0.0, 3.0, 1.0, 2.0];

    fn frequencies(sampling: Sampling) -> [f64; 4] {
        let mut counts = [0.0; 4];
        for index in 0..20_000 {
            counts[sampling.choose(&LOGITS, 1, index) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn softmax(kept: &[usize], temperature: f64) -> [f64; 4] {
        let weight = |i: usize| if kept.contains(&i) { (f64::from(LOGITS[i]) / temperature).exp() } else { 0.0 };
        let total: f64 = (0..4).map(weight).sum();
        [0, 1, 2, 3].map(|i| weight(i) / total)
    }

    #[test]
    fn tokens_are_drawn_with_the_probabilities_of_the_softmax() {
        let base = Sampling { temperature: 1.5, top_k: None, top_p: 1.0, seed: 3 };
        let cases = [
            (base, softmax(&[0, 1, 2, 3], 1.5)),
            (Sampling { top_k: Some(2), ..base }, softmax(&[1, 3], 1.5)),
            // At 1.5 the probabilities are 0.52, 0.27, 0.14 and 0.07: 0.75 needs two.
            (Sampling { top_p: 0.75, ..base }, softmax(&[1, 3], 1.5)),
            // Of the three that are left, 0.56, 0.29 and 0.15: 0.75 needs two again, and one more than 0.5 would.
            (Sampling { top_k: Some(3), top_p: 0.75, ..base }, softmax(&[1, 3], 1.5)),
            (Sampling { top_p: 1e-9, ..base }, softmax(&[1], 1.5)),
        ];
        for (sampling, expected) in cases {
            for (seen, expected) in frequencies(sampling).iter().zip(expected) {
                // Five standard errors of a proportion over 20,000 draws.
                assert!((seen - expected).abs() < 0.018, "{sampling:?}: {seen} against {expected}");
            }
        }
    }

    #[test]
    fn a_nucleus_of_many_tokens_is_the_one_that_sorting_them_gives() {
        // More than are sorted at first, with ties, and a share that half of them reach.
        let weight = |id: u32| 1.0 + f64::from(id * 7919 % 301);
        let mut candidates: Vec<(u32, f64)> = (0..3000).map(|id| (id, weight(id))).collect();
        let mut sorted = candidates.clone();
        sorted.sort_by(descending);
        for share in [0.01, 0.3, 0.8, 1.0] {
            let reached = share * candidates.iter().map(|(_, weight)| weight).sum::<f64>();
            // Whole numbers: their sums are exact in any order.
            let kept = |count: usize| sorted[..count].iter().map(|(_, weight)| weight).sum::<f64>();
            let count = (1..=3000).find(|count| kept(*count) >= reached).unwrap_or(3000);
            assert_eq!(nucleus(&mut candidates, share), &sorted[..count], "{share}");
        }
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_largest() {
        assert_eq!(Sampling::default().choose(&[1.0, 5.0, 5.0], 0, 0), 1);
    }
}
