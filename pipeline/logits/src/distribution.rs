//! A teacher's distribution at one position, in 64 bits.

/// `softmax(logits / temperature)`, not normalised.
#[derive(Debug)]
pub(crate) struct Distribution {
    /// `exp((logit - largest) / temperature)`, one an id.
    weights: Vec<f64>,
    /// `(logit - largest) / temperature`, one an id: at most 0.
    exponents: Vec<f64>,
    total: f64,
}

impl Distribution {
    /// The distribution of one position's logits; `None` where one of them is not finite.
    pub(crate) fn new(logits: &[f32], temperature: f64) -> Option<Distribution> {
        if logits.is_empty() || logits.iter().any(|logit| !logit.is_finite()) {
            return None;
        }
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let exponents: Vec<f64> = logits.iter().map(|logit| (f64::from(*logit) - largest) / temperature).collect();
        // From a library, not the system's: the same bits on every machine.
        let weights: Vec<f64> = exponents.iter().map(|exponent| libm::exp(*exponent)).collect();
        let total = weights.iter().sum();
        Some(Distribution { weights, exponents, total })
    }

    /// Number of ids.
    pub(crate) fn len(&self) -> usize {
        self.weights.len()
    }

    /// `ln p(id)`.
    pub(crate) fn log_probability(&self, id: usize) -> f64 {
        self.exponents[id] - libm::log(self.total)
    }

    /// `(logit - largest) / temperature` of every id: the order of the probabilities.
    pub(crate) fn exponents(&self) -> &[f64] {
        &self.exponents
    }

    /// `ln Σ p(id)` over the ids, summed and not taken from 1: exact to rounding however little it is, `-∞` for none.
    pub(crate) fn log_sum(&self, ids: impl Iterator<Item = usize>) -> f64 {
        libm::log(ids.map(|id| self.weights[id]).sum::<f64>()) - libm::log(self.total)
    }

    /// `Σ weight` up to and with each id.
    pub(crate) fn cumulative(&self) -> Vec<f64> {
        let mut sum = 0.0;
        let add = |weight: &f64| {
            sum += weight;
            sum
        };
        self.weights.iter().map(add).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_the_softmax_at_the_temperature() {
        // exp(0), exp(ln 3), exp(ln 4) are 1, 3, 4; at temperature 1/2 their squares, 1, 9, 16.
        let logits = [0.0, 3f32.ln(), 4f32.ln()];
        for (temperature, expected) in [(1.0, [0.125, 0.375, 0.5]), (0.5, [1.0 / 26.0, 9.0 / 26.0, 16.0 / 26.0])] {
            let distribution = Distribution::new(&logits, temperature).expect("finite");
            for (id, expected) in expected.into_iter().enumerate() {
                // Logarithms of 32-bit inputs.
                assert!((distribution.log_probability(id).exp() - expected).abs() < 1e-7);
            }
            assert!((distribution.log_sum([0, 2].into_iter()).exp() - expected[0] - expected[2]).abs() < 1e-7);
        }
    }

    #[test]
    fn a_small_remainder_keeps_its_digits() {
        // 1 - p of the largest rounds to 0 in 64 bits.
        let distribution = Distribution::new(&[0.0, -50.0, -50.0], 1.0).expect("finite");
        assert!((distribution.log_sum([1, 2].into_iter()) - (-50.0 + 2f64.ln())).abs() < 1e-12);
        assert_eq!(distribution.log_sum([].into_iter()), f64::NEG_INFINITY);
    }

    #[test]
    fn logits_that_are_not_finite_are_no_distribution() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(Distribution::new(&[0.0, bad, 1.0], 1.0).is_none());
        }
        assert!(Distribution::new(&[], 1.0).is_none());
    }
}
