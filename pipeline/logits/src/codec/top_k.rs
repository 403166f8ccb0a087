//! Top-k with a ghost bucket: the most probable ids, and everything else as one more outcome.
//!
//! What is compared is then the coarsened distribution, whose divergences are proper ones (zero for a perfect student,
//! never negative, at most the full ones), but which says nothing of how the rest is shared out. Renormalising the k
//! instead hides the student's mass outside of them; leaving the rest out makes the sum negative.

use crate::distribution::Distribution;

/// What is kept of one position.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    /// Ascending ids with their log-probabilities.
    pub(crate) ids: Vec<(u32, f32)>,
    /// `ln` of the probability of all other ids together; `-∞` where there is none.
    pub(crate) rest: f32,
}

/// The `k` most probable ids; of equals the lower one.
pub(crate) fn keep(distribution: &Distribution, k: u32) -> Kept {
    let exponents = distribution.exponents();
    let k = (k as usize).min(exponents.len());
    // Values alone: selecting ids by their values would read all over the row.
    let mut sorted = exponents.to_vec();
    let least = match k.checked_sub(1) {
        Some(place) => *sorted.select_nth_unstable_by(place, |one, other| other.total_cmp(one)).1,
        None => f32::INFINITY,
    };
    let above = exponents.iter().filter(|exponent| **exponent > least).count();
    let mut equals = k - above;
    let mut is_kept = |exponent: f32| {
        let taken = exponent == least && equals > 0;
        equals -= usize::from(taken);
        taken || exponent > least
    };
    let (kept, others): (Vec<usize>, Vec<usize>) = (0..exponents.len()).partition(|id| is_kept(exponents[*id]));
    Kept {
        ids: kept.iter().map(|id| (*id as u32, shortened(distribution.log_probability(*id)))).collect(),
        rest: shortened(distribution.log_sum(others.into_iter())),
    }
}

/// `KL(teacher ‖ kept)` in nats, the rest being shared out evenly: what a student cannot learn.
pub(crate) fn divergence(distribution: &Distribution, kept: &Kept) -> f64 {
    let others = distribution.len() - kept.ids.len();
    if others == 0 {
        return 0.0;
    }
    let even = f64::from(kept.rest) - libm::log(others as f64);
    let mut next = kept.ids.iter().map(|(id, _)| *id as usize).peekable();
    let term = |id: usize| {
        let log = distribution.log_probability(id);
        if next.next_if_eq(&id).is_some() || log == f64::NEG_INFINITY { 0.0 } else { libm::exp(log) * (log - even) }
    };
    (0..distribution.len()).map(term).sum()
}

/// The nearest float whose last 8 bits are zero.
///
/// Such floats cost 3 bytes at most where bytes of equal rank are compressed together, and 32-bit columns are read by every
/// tool, which 16-bit ones are not. The relative error of a log-probability is below `2^-16`; after normalisation a KL
/// changes by its square, less than a 32-bit sum does.
fn shortened(log_probability: f64) -> f32 {
    let value = log_probability as f32;
    if !value.is_finite() {
        return value;
    }
    let bits = value.to_bits();
    // To even, as floats do.
    f32::from_bits((bits + 0x7f + (bits >> 8 & 1)) & !0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(logits: &[f32], k: u32) -> (Distribution, Kept) {
        let distribution = Distribution::new(logits, 1.0).expect("finite");
        let kept = keep(&distribution, k);
        (distribution, kept)
    }

    #[test]
    fn the_most_probable_ids_are_kept_in_ascending_order() {
        // Probabilities 1/16, 4/16, 2/16, 8/16, 1/16.
        let logits = [0.0, 4f32.ln(), 2f32.ln(), 8f32.ln(), 0.0];
        let (distribution, two) = kept(&logits, 2);
        assert_eq!(two.ids.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 3]);
        for (value, expected) in [(two.ids[0].1, 0.25f64), (two.ids[1].1, 0.5), (two.rest, 0.25)] {
            assert!((f64::from(value) / expected.ln() - 1.0).abs() < 2f64.powi(-16), "{value}");
        }
        // The rest, 1/16, 2/16, 1/16, against 1/12 each.
        let expected = 2.0 / 16.0 * (12.0 / 16.0f64).ln() + 2.0 / 16.0 * (24.0 / 16.0f64).ln();
        assert!((divergence(&distribution, &two) - expected).abs() < 1e-5);
    }

    #[test]
    fn of_equals_the_lower_ids_are_kept() {
        let (_, two) = kept(&[1.0, 3.0, 1.0, 1.0, 1.0], 3);
        assert_eq!(two.ids.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn nothing_is_left_over_when_all_are_kept() {
        let (distribution, all) = kept(&[0.3, -1.0, 2.0], 7);
        assert_eq!((all.ids.len(), all.rest), (3, f32::NEG_INFINITY));
        assert_eq!(divergence(&distribution, &all), 0.0);
    }

    #[test]
    fn shortened_floats_are_the_nearest_and_end_in_zeros() {
        for step in 1..4000 {
            let value = -0.003 * f64::from(step);
            let short = shortened(value);
            assert_eq!(short.to_bits() & 0xff, 0);
            assert!((f64::from(short) / value - 1.0).abs() <= 2f64.powi(-16) * 1.001);
        }
        assert_eq!(shortened(f64::NEG_INFINITY), f32::NEG_INFINITY);
        assert_eq!(shortened(0.0), 0.0);
    }
}
