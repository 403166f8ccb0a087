//! A teacher's distribution at one position.
//!
//! Every id costs an exponential, which in a large vocabulary is a good part of a capture's time: it is made of 32-bit products and
//! sums that compilers turn into vector instructions, and that give the same bits on every machine. What is summed over
//! many ids is summed in 64 bits.

/// `softmax(logits / temperature)`, not normalised.
#[derive(Debug)]
pub(crate) struct Distribution {
    /// `(logit - largest) / temperature`, one an id: at most 0.
    exponents: Vec<f32>,
    /// `exp(exponent)`, one an id.
    weights: Vec<f32>,
    total: f64,
}

impl Distribution {
    /// The distribution of one position's logits; `None` where one of them is not finite.
    pub(crate) fn new(logits: &[f32], temperature: f64) -> Option<Distribution> {
        // Without a branch: a sum of finite numbers times 0 is 0, any other is not a number.
        if logits.is_empty() || logits.iter().map(|logit| logit * 0.0).sum::<f32>() != 0.0 {
            return None;
        }
        let largest =
            logits.iter().copied().fold(f32::NEG_INFINITY, |one, other| if other > one { other } else { one });
        let inverse = (1.0 / temperature) as f32;
        let exponents: Vec<f32> = logits.iter().map(|logit| (logit - largest) * inverse).collect();
        let weights: Vec<f32> = exponents.iter().map(|exponent| exp(*exponent)).collect();
        let total = weights.iter().map(|weight| f64::from(*weight)).sum();
        Some(Distribution { exponents, weights, total })
    }

    /// Number of ids.
    pub(crate) fn len(&self) -> usize {
        self.weights.len()
    }

    /// `ln p(id)`.
    pub(crate) fn log_probability(&self, id: usize) -> f64 {
        f64::from(self.exponents[id]) - libm::log(self.total)
    }

    /// `(logit - largest) / temperature` of every id: the order of the probabilities.
    pub(crate) fn exponents(&self) -> &[f32] {
        &self.exponents
    }

    /// `ln Σ p(id)` over the ids, summed and not taken from 1: exact to rounding however little it is, `-∞` for none.
    pub(crate) fn log_sum(&self, ids: impl Iterator<Item = usize>) -> f64 {
        libm::log(ids.map(|id| f64::from(self.weights[id])).sum::<f64>()) - libm::log(self.total)
    }

    /// `Σ weight` up to and with each id.
    pub(crate) fn cumulative(&self) -> Vec<f64> {
        let mut sum = 0.0;
        let add = |weight: &f32| {
            sum += f64::from(*weight);
            sum
        };
        self.weights.iter().map(add).collect()
    }
}

/// `exp(x)` of a number that is at most 0, to a relative error of 3e-7 and that of rounding `x`; 0 under -80.
///
/// # Source
/// `2^n · 2^f` with `n` the nearest integer to `x / ln 2`, `f` in \[-1/2, 1/2\] and the Taylor series of `2^f`, whose ninth term
/// is under 2e-9; `n` goes into the float's exponent as an integer.
fn exp(x: f32) -> f32 {
    /// `1.5 · 2^23`: added and taken away again, it rounds to an integer, which stands in the lowest bits in between.
    const ROUND: f32 = 12_582_912.0;
    /// `ln 2^k / k!`
    const TERMS: [f32; 8] = [
        1.0,
        std::f32::consts::LN_2,
        0.240_226_5,
        0.055_504_11,
        0.009_618_129,
        0.001_333_356,
        0.000_154_035_3,
        0.000_015_252_73,
    ];
    let power = x * std::f32::consts::LOG2_E;
    let shifted = power + ROUND;
    let fraction = power - (shifted - ROUND);
    let series = TERMS.iter().rev().fold(0.0, |sum, term| sum * fraction + term);
    let scaled = f32::from_bits(series.to_bits().wrapping_add(shifted.to_bits() << 23));
    if x < -80.0 { 0.0 } else { scaled }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_the_library() {
        for step in 0..800_000 {
            let x = -0.0001 * step as f32;
            let expected = libm::exp(f64::from(x));
            let error = (f64::from(exp(x)) / expected - 1.0).abs();
            // Rounding `x / ln 2`, which is under 116, to 24 bits.
            assert!(error < 3e-7 + f64::from(-x) * 1.2e-7, "{x}: {error}");
        }
        assert_eq!([exp(0.0), exp(-80.1), exp(-1e30), exp(f32::MIN)], [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn probabilities_are_those_of_the_softmax_at_the_temperature() {
        // exp(0), exp(ln 3), exp(ln 4) are 1, 3, 4; at temperature 1/2 their squares, 1, 9, 16.
        let logits = [0.0, 3f32.ln(), 4f32.ln()];
        for (temperature, expected) in [(1.0, [0.125, 0.375, 0.5]), (0.5, [1.0 / 26.0, 9.0 / 26.0, 16.0 / 26.0])] {
            let distribution = Distribution::new(&logits, temperature).expect("finite");
            for (id, expected) in expected.into_iter().enumerate() {
                // Logarithms of 32-bit inputs.
                assert!((distribution.log_probability(id).exp() - expected).abs() < 3e-7);
            }
            assert!((distribution.log_sum([0, 2].into_iter()).exp() - expected[0] - expected[2]).abs() < 3e-7);
        }
    }

    #[test]
    fn a_small_remainder_keeps_its_digits() {
        // 1 - p of the largest rounds to 0 in 64 bits.
        let distribution = Distribution::new(&[0.0, -50.0, -50.0], 1.0).expect("finite");
        assert!((distribution.log_sum([1, 2].into_iter()) - (-50.0 + 2f64.ln())).abs() < 1e-5);
        assert_eq!(distribution.log_sum([].into_iter()), f64::NEG_INFINITY);
    }

    #[test]
    fn logits_that_are_not_finite_are_no_distribution() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(Distribution::new(&[0.0, bad, 1.0], 1.0).is_none());
        }
        assert!(Distribution::new(&[], 1.0).is_none());
        assert!(Distribution::new(&[f32::MAX, f32::MIN, 0.0], 1.0).is_some());
    }
}
