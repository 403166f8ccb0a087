//! Whether a written file still is the model.

/// How two sets of logits differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Largest difference over the reference's standard deviation.
    pub relative_error: f64,
    /// Mean KL(reference ‖ candidate) of the rows' distributions, in nats.
    pub kl_nats: f64,
}

/// Compares logits row by row.
///
/// # Shapes
/// - `reference`, `candidate`: `[rows, vocab_size]`, row-major
///
/// # Panics
/// If the lengths differ or are no multiple of `vocab_size`.
pub fn compare(reference: &[f32], candidate: &[f32], vocab_size: usize) -> Agreement {
    assert_eq!(reference.len(), candidate.len(), "logits of the same rows");
    assert_eq!(reference.len() % vocab_size, 0, "whole rows");
    let count = reference.len() as f64;
    let mean = reference.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let variance = reference.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
    let differences = reference.iter().zip(candidate).map(|(r, c)| f64::from((r - c).abs()));
    // Not `fold(max)`: NaN must not vanish.
    let largest = differences.fold(0.0, |largest: f64, d| if d > largest || d.is_nan() { d } else { largest });
    let rows = reference.chunks(vocab_size).zip(candidate.chunks(vocab_size));
    let kl = rows.map(|(r, c)| kl(&log_softmax(r), &log_softmax(c))).sum::<f64>();
    Agreement { relative_error: largest / variance.sqrt(), kl_nats: kl * vocab_size as f64 / count }
}

fn kl(reference: &[f64], candidate: &[f64]) -> f64 {
    reference.iter().zip(candidate).map(|(r, c)| r.exp() * (r - c)).sum()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |m, x| m.max(f64::from(*x)));
    let sum = logits.iter().map(|x| (f64::from(*x) - largest).exp()).sum::<f64>();
    logits.iter().map(|x| f64::from(*x) - largest - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measures_have_the_values_of_their_definitions() {
        // Reference (ln 4, 0) is (0.8, 0.2); candidate (0, 0) is (0.5, 0.5).
        let agreement = compare(&[4f32.ln(), 0.0], &[0.0, 0.0], 2);
        assert!((agreement.kl_nats - (0.8 * 1.6f64.ln() + 0.2 * 0.4f64.ln())).abs() < 1e-6);
        // The standard deviation of (ln 4, 0) is half of ln 4.
        assert!((agreement.relative_error - 2.0).abs() < 1e-6);
    }

    #[test]
    fn a_candidate_that_is_no_number_does_not_pass_for_equal() {
        assert!(compare(&[1.0, 0.0], &[f32::NAN, 0.0], 2).relative_error.is_nan());
    }
}
