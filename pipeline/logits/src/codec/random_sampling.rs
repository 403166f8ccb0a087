//! Random sampling: ids drawn from the teacher, as counts.
//!
//! A target of `count / draws` has the teacher's probability as its mean, so the gradient of forward KL, which is linear in
//! the target, has the dense gradient as its mean, at the temperature that was drawn at. The k most probable ids have no
//! such property, however they are renormalised.
//!
//! The draws of a position are one random offset and steps of one width over the cumulative sums: each id is drawn as often as
//! its probability says, rounded down or up. Draws apart from each other have the same mean and far more noise: an id of
//! probability 0.5 would be drawn 25 ± 3.5 times of 50.
//!
//! # Source
//! Sparse logit sampling: Anshumann et al., ACL 2025 (arXiv:2503.16870), with the proposal equal to the teacher (their
//! `t = 1`), where the importance weights are all 1. Gemma 3 (arXiv:2503.19786, 2.2) draws 256 a token. Systematic draws:
//! Madow and Madow, "On the theory of systematic sampling", 1944; Kitagawa 1996 for resampling.

use limbeck_random::Stream;

use crate::distribution::Distribution;

/// Ids of one position in ascending order, each with how often it was drawn: less than 1 from `draws` times its probability. The
/// counts' sum is `draws`.
pub(crate) fn sample(distribution: &Distribution, cumulative: &[f64], draws: u32, seed: u64) -> Vec<(u32, u16)> {
    let total = cumulative.last().copied().unwrap_or(0.0);
    let (width, offset) = (total / f64::from(draws), Stream::new(seed).uniform());
    // Rounding must not reach the total, which nothing owns.
    let points = (0..draws).map(|step| ((f64::from(step) + offset) * width).min(total.next_down()));
    let mut drawn: Vec<(u32, u16)> = Vec::new();
    let mut from = 0;
    for point in points {
        // An id owns the points from the sum before it to the sum with it, so one of weight 0 is never drawn.
        from += cumulative[from..].partition_point(|sum| *sum <= point);
        let id = from.min(distribution.len() - 1) as u32;
        match drawn.last_mut() {
            Some((last, count)) if *last == id => *count += 1,
            _ => drawn.push((id, 1)),
        }
    }
    drawn
}

/// `KL(sample ‖ teacher)` in nats: the noise of one sample. The other way round it is infinite.
pub(crate) fn divergence(distribution: &Distribution, drawn: &[(u32, u16)], draws: u32) -> f64 {
    let term = |(id, count): &(u32, u16)| {
        let share = f64::from(*count) / f64::from(draws);
        share * (libm::log(share) - distribution.log_probability(*id as usize))
    };
    drawn.iter().map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(logits: &[f32], draws: u32, seed: u64) -> Vec<(u32, u16)> {
        let distribution = Distribution::new(logits, 1.0).expect("finite");
        sample(&distribution, &distribution.cumulative(), draws, seed)
    }

    #[test]
    fn counts_sum_to_the_draws_and_ids_ascend() {
        let logits: Vec<f32> = (0..97).map(|id| (id as f32 * 0.7).sin() * 3.0).collect();
        for seed in 0..200 {
            let drawn = drawn(&logits, 50, seed);
            assert_eq!(drawn.iter().map(|(_, count)| u32::from(*count)).sum::<u32>(), 50);
            assert!(drawn.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }

    #[test]
    fn every_id_is_drawn_as_often_as_expected_but_for_rounding() {
        let logits: Vec<f32> = (0..97).map(|id| (id as f32 * 0.7).sin() * 3.0).collect();
        let distribution = Distribution::new(&logits, 1.0).expect("finite");
        for seed in 0..200 {
            let mut counts = [0.0; 97];
            drawn(&logits, 50, seed).iter().for_each(|(id, count)| counts[*id as usize] = f64::from(*count));
            for (id, count) in counts.into_iter().enumerate() {
                let expected = 50.0 * libm::exp(distribution.log_probability(id));
                assert!((count - expected).abs() < 1.0 + 1e-9, "{id}: {count} {expected}");
            }
        }
    }

    #[test]
    fn what_cannot_happen_is_never_drawn_and_what_must_always_is() {
        let certain = [-2000.0, 0.0, -2000.0, -2000.0];
        assert!((0..100).all(|seed| drawn(&certain, 50, seed) == [(1, 50)]));
        // The last id owns the last points.
        assert!((0..100).all(|seed| drawn(&[-2000.0, 0.0], 50, seed) == [(1, 50)]));
    }

    #[test]
    fn the_divergence_is_that_of_the_definition() {
        // p = (1/4, 3/4), sample (1/2, 1/2): ln 2 / 2 + ln(2/3) / 2.
        let distribution = Distribution::new(&[0.0, 3f32.ln()], 1.0).expect("finite");
        let expected = 0.5 * 2f64.ln() + 0.5 * (2.0f64 / 3.0).ln();
        assert!((divergence(&distribution, &[(0, 5), (1, 5)], 10) - expected).abs() < 1e-7);
    }
}
