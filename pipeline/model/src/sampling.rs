//! Choosing the next token.

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
    /// The token for `logits`, the `index`-th of `row`.
    pub(crate) fn choose(&self, logits: &[f32], row: usize, index: usize) -> u32 {
        if self.temperature == 0.0 {
            return greedy(logits);
        }
        let mut candidates: Vec<(u32, f64)> =
            logits.iter().enumerate().map(|(id, logit)| (id as u32, f64::from(*logit) / self.temperature)).collect();
        // Ties in order of their ids, so that the choice does not depend on the sort.
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        candidates.truncate(self.top_k.unwrap_or(usize::MAX).max(1));
        let largest = candidates[0].1;
        candidates.iter_mut().for_each(|(_, weight)| *weight = (*weight - largest).exp());
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut kept = 0.0;
        let nucleus = candidates.iter().take_while(|(_, weight)| {
            let reached = kept >= self.top_p * total;
            kept += weight;
            !reached
        });
        let nucleus: Vec<(u32, f64)> = nucleus.copied().collect();
        let nucleus = if nucleus.is_empty() { &candidates[..1] } else { &nucleus[..] };
        let mut rest = uniform(self.seed, row, index) * nucleus.iter().map(|(_, weight)| weight).sum::<f64>();
        for (id, weight) in nucleus {
            rest -= weight;
            if rest < 0.0 {
                return *id;
            }
        }
        nucleus[nucleus.len() - 1].0
    }
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
        ];
        for (sampling, expected) in cases {
            for (seen, expected) in frequencies(sampling).iter().zip(expected) {
                // Five standard errors of a proportion over 20,000 draws.
                assert!((seen - expected).abs() < 0.018, "{sampling:?}: {seen} against {expected}");
            }
        }
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_largest() {
        assert_eq!(Sampling::default().choose(&[1.0, 5.0, 5.0], 0, 0), 1);
    }
}
