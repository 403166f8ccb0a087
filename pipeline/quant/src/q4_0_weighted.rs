//! Q4_0 for the least weighted error.
//!
//! The error of codes q with the scale d is `Σ w (x − d q)²`. For given codes the best scale is `Σ w x q / Σ w q²`, and the
//! error is then `Σ w x² − (Σ w x q)² / Σ w q²`. For a given scale the best codes are the nearest ones. As 1 / d grows
//! from 0, they change one at a time, each value's from k − 1 to k where `|x| / d = k − ½`: at most 8 changes for each of 32
//! values and each of the two signs that d may have. Whatever scale is the best one, its codes are among these, so
//! going through all of them, with the two sums kept up to date, finds it.

use crate::q4_0::{BLOCK_BYTES, decode_block, encode_with_scale};
use crate::tasks::{each, weighted_error};
use crate::{BLOCK_SIZE, float};

/// A value's code goes one further from zero.
#[derive(Clone, Copy)]
struct Change {
    /// The inverse of the scale from which on it does.
    inverse: f32,
    /// What `Σ w x q` grows by.
    product: f64,
    /// What `Σ w q²` grows by.
    square: f64,
}

/// Encodes rows of as many values as there are of `importance`; a block that is as good in `plain` stays that.
pub(crate) fn encode(values: &[f32], importance: &[f32], plain: Vec<u8>) -> Vec<u8> {
    let blocks_per_row = importance.len() / BLOCK_SIZE;
    let weights = importance.as_chunks::<BLOCK_SIZE>().0;
    let blocks: Vec<_> = values.as_chunks::<BLOCK_SIZE>().0.iter().zip(plain.as_chunks::<BLOCK_BYTES>().0).collect();
    let numbered: Vec<_> = blocks.into_iter().enumerate().collect();
    each(&numbered, |[(number, (values, plain))]| encode_block(values, &weights[number % blocks_per_row], plain))
}

fn encode_block(
    values: &[f32; BLOCK_SIZE],
    weights: &[f32; BLOCK_SIZE],
    plain: &[u8; BLOCK_BYTES],
) -> [u8; BLOCK_BYTES] {
    let scale = best_scale(values, weights);
    let stored = float::decode_f16(float::encode_f16(scale));
    if stored == 0.0 || !stored.is_finite() {
        return *plain;
    }
    // The codes that are nearest with the scale as it is stored.
    let best = encode_with_scale(values, stored);
    let error = |bytes| weighted_error(values, &decode_block(bytes), weights);
    if error(&best) < error(plain) { best } else { *plain }
}

/// The scale of the least weighted error; 0 where nothing counts.
fn best_scale(values: &[f32; BLOCK_SIZE], weights: &[f32; BLOCK_SIZE]) -> f32 {
    let mut best = (0.0, 0.0);
    for sign in [1.0, -1.0] {
        let mut changes = Vec::with_capacity(8 * BLOCK_SIZE);
        for (value, weight) in values.iter().zip(weights) {
            // Codes go down to −8 and up to 7.
            let steps = if sign * value < 0.0 { 8 } else { 7 };
            let (size, weight) = (value.abs(), f64::from(*weight));
            changes.extend((1..=steps).filter(|_| size > 0.0 && weight > 0.0).map(|step| Change {
                inverse: (step as f32 - 0.5) / size,
                product: weight * f64::from(size),
                square: weight * f64::from(2 * step - 1),
            }));
        }
        changes.sort_unstable_by(|one, other| one.inverse.total_cmp(&other.inverse));
        let (mut product, mut square) = (0.0, 0.0);
        for change in changes {
            product += change.product;
            square += change.square;
            let gain = product * product / square;
            if gain > best.0 {
                best = (gain, f64::from(sign) * product / square);
            }
        }
    }
    best.1 as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of two values that count. All of the weight on 0.9 of [1, 0.9]: the plain scale −0.125 gives it −7 · −0.125 =
    /// 0.875; a scale of 0.9 / q gives it exactly what it is, up to the rounding of the scale.
    #[test]
    fn the_value_that_counts_is_met() {
        let (mut values, mut weights) = ([0.0; BLOCK_SIZE], [0.0; BLOCK_SIZE]);
        (values[0], values[5], weights[0], weights[5]) = (1.0, 0.9, 1e-6, 1.0);
        let decoded = decode_block(&encode_block(&values, &weights, &crate::q4_0::encode_block(&values)));
        // Half a step of binary16, relative.
        assert!((decoded[5] - 0.9).abs() < 0.9 / 2048.0, "{}", decoded[5]);
        assert!((decoded[0] - 1.0).abs() < 0.13, "{}", decoded[0]);
    }

    /// By hand: x = (3, 1), w = (1, 1), every other value 0. With a positive scale the codes (7, 2) give
    /// (3·7 + 1·2)² / (49 + 4) = 9.9811 of 10; (6, 2) or (3, 1) give 10, which is all: d = 1.
    #[test]
    fn a_block_that_fits_a_scale_gets_it() {
        let mut values = [0.0; BLOCK_SIZE];
        (values[3], values[30]) = (3.0, 1.0);
        let scale = best_scale(&values, &[1.0; BLOCK_SIZE]);
        let steps = [3.0 / scale, 1.0 / scale];
        assert!(steps.iter().all(|step| (step - step.round()).abs() < 1e-6), "{steps:?}");
    }

    /// Against every scale of a fine grid, which comes close to the best from above.
    #[test]
    fn no_scale_is_better() {
        let mut state = 7_u32;
        let mut drawn = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        for _ in 0..50 {
            let values: [f32; BLOCK_SIZE] = std::array::from_fn(|_| drawn() + drawn() - 1.0);
            let weights: [f32; BLOCK_SIZE] = std::array::from_fn(|_| drawn().powi(4));
            let error = |scale: f32| {
                let nearest = values.map(|value| scale * (value / scale).round().clamp(-8.0, 7.0));
                weighted_error(&values, &nearest, &weights)
            };
            let found = error(best_scale(&values, &weights));
            for step in 1..20_000 {
                let scale = 0.4 * step as f32 / 20_000.0;
                // 32-bit products.
                assert!(found <= error(scale) + 1e-6 && found <= error(-scale) + 1e-6, "{scale}");
            }
        }
    }
}
