//! Loops that the compiler turns into vector instructions, see [`crate::level::vectorized`]. Products and sums are rounded
//! apart: a processor without fused multiply-adds would call a function for each.

/// Independent sums of a reduction: one AVX-512 register. Fixed, so that the order of the additions is too.
pub(crate) const LANES: usize = 16;

/// [`LANES`] of 64 bits.
pub(crate) const LANES_64: usize = 8;

/// `Σ a · b`.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The largest value. NaN is passed over here and shows in the exponentials.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |largest, value| largest.max(*value))
}

/// `values = exp(values - shift)`; returns their sum.
#[inline(always)]
pub(crate) fn exp_shifted(values: &mut [f32], shift: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let mut chunks = values.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            chunk[lane] = exp(chunk[lane] - shift);
            lanes[lane] += chunk[lane];
        }
    }
    let mut rest = 0.0;
    for value in chunks.into_remainder() {
        *value = exp(*value - shift);
        rest += *value;
    }
    lanes.iter().sum::<f32>() + rest
}

/// `Σ exp((values - shift) · scale)`.
#[inline(always)]
pub(crate) fn sum_exp(values: &[f32], shift: f32, scale: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|value| exp((value - shift) * scale)).sum();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += exp((chunk[lane] - shift) * scale);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// `eˣ` within 2 units in the last place from -87 to 88, and clamped outside: Cephes' `expf` (Moshier 1989), with the rounding
/// done by adding 1.5 · 2²³, so that no step needs a scalar instruction. NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUNDING: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDING;
    let n = shifted - ROUNDING;
    // ln 2 in two parts: the product with the first is exact.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4f32;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
        p = p * r + coefficient;
    }
    let p = p * (r * r) + r + 1.0;
    // The low bits of `shifted` are `n`: moved into the exponent they are 2ⁿ.
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// `exponentials = exp(values - shift)`; returns their sum.
#[inline(always)]
pub(crate) fn exp_shifted_64(values: &[f64], shift: f64, exponentials: &mut Vec<f64>) -> f64 {
    exponentials.clear();
    exponentials.resize(values.len(), 0.0);
    let mut lanes = [0.0; LANES_64];
    let chunks = values.chunks_exact(LANES_64);
    let rest = chunks.remainder();
    let mut written = exponentials.chunks_exact_mut(LANES_64);
    for (chunk, written) in chunks.zip(&mut written) {
        // By way of arrays, of which the compiler knows that they do not overlap: it made scalar instructions of slices.
        let mut values = [0.0; LANES_64];
        values.copy_from_slice(chunk);
        values.iter_mut().for_each(|value| *value = exp_64(*value - shift));
        for (lane, value) in lanes.iter_mut().zip(&values) {
            *lane += value;
        }
        written.copy_from_slice(&values);
    }
    let mut sum = lanes.iter().sum::<f64>();
    for (value, written) in rest.iter().zip(written.into_remainder()) {
        *written = exp_64(value - shift);
        sum += *written;
    }
    sum
}

/// `eˣ` in 64 bits within 2 units in the last place from -708 to 709, and clamped outside: [`exp`] with the series of eˣ to the
/// twelfth power, whose next term is under 2⁻⁵². NaN stays NaN.
#[inline(always)]
pub(crate) fn exp_64(x: f64) -> f64 {
    const ROUNDING: f64 = 6_755_399_441_055_744.0;
    const INVERSE_FACTORIALS: [f64; 12] = [
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let x = if x < -708.0 { -708.0 } else { x };
    let x = if x > 709.0 { 709.0 } else { x };
    let shifted = x * std::f64::consts::LOG2_E + ROUNDING;
    let n = shifted - ROUNDING;
    // ln 2 in two parts, those of Sun's `exp`: the product with the first is exact.
    let r = (x - n * 6.931_471_803_691_238e-1) - n * 1.908_214_929_270_587_7e-10;
    let mut p = 1.0 / 479_001_600.0;
    for coefficient in INVERSE_FACTORIALS {
        p = p * r + coefficient;
    }
    p * f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52))
}

/// `ln x` within 1 unit in the last place, of normal numbers over 0: the series in (x - 1) / (x + 1) of Sun's `logf` (FreeBSD's
/// `e_logf.c`), without its branches.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    /// √½: what is left of x is taken from there to √2.
    const LEAST: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(LEAST);
    let n = (bits as i32 >> 23) as f32;
    let f = f32::from_bits((bits & 0x007f_ffff) + LEAST) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let odd = w * (0.400_009_72 + w * 0.242_790_79);
    let even = z * (0.666_666_6 + w * 0.284_987_87);
    let half_square = 0.5 * f * f;
    // ln 2 in two parts: the product with the first is exact.
    s * (half_square + odd + even) + n * 9.058_001e-6 - half_square + f + n * 0.693_138_1
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::vectorized;

    #[test]
    fn exp_is_the_exponential_to_two_units_in_the_last_place() {
        for i in -8_700..8_800 {
            let x = i as f32 / 100.0 + 0.003;
            let (seen, expected) = (vectorized(|| exp(x)), f64::from(x).exp());
            assert!((f64::from(seen) / expected - 1.0).abs() < 2.4e-7, "{x}: {seen} {expected}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-1e30) < 2e-38);
    }

    #[test]
    fn exp_64_is_the_exponential_to_two_units_in_the_last_place() {
        for i in -70_800..70_900 {
            let x = f64::from(i) / 100.0 + 0.003;
            let (seen, expected) = (vectorized(|| exp_64(x)), x.exp());
            assert!((seen / expected - 1.0).abs() < 4.5e-16, "{x}: {seen} {expected}");
        }
        assert!(exp_64(f64::NAN).is_nan());
        assert!(exp_64(f64::NEG_INFINITY) < 4e-308);
        for length in [0, 1, 7, 8, 19] {
            let values: Vec<f64> = (0..length).map(|i| f64::from(i) * 0.3 - 2.0).collect();
            let mut exponentials = vec![f64::NAN; 3];
            let sum = vectorized(|| exp_shifted_64(&values, 0.5, &mut exponentials));
            let expected: Vec<f64> = values.iter().map(|value| (value - 0.5).exp()).collect();
            assert!((sum - expected.iter().sum::<f64>()).abs() < 1e-14);
            assert!(exponentials.len() == values.len());
            assert!(exponentials.iter().zip(&expected).all(|(a, b)| (a / b - 1.0).abs() < 4.5e-16));
        }
    }

    #[test]
    fn ln_is_the_logarithm_to_a_unit_in_the_last_place() {
        let check = |x: f32| {
            let (seen, expected) = (vectorized(|| ln(x)), f64::from(x).ln());
            let error = (f64::from(seen) - expected).abs();
            assert!(error <= 1.2e-7 * expected.abs(), "{x}: {seen} {expected}");
        };
        for i in -8_700..8_800 {
            check((i as f32 / 100.0 + 0.003).exp());
            // Around 1, where the logarithm is small.
            check(1.0 + i as f32 * 1e-7);
        }
        check(f32::MIN_POSITIVE);
        check(f32::MAX);
    }

    #[test]
    fn sums_over_odd_lengths_have_every_term() {
        for length in [1, 3, 15, 16, 17, 37] {
            let a: Vec<f32> = (0..length).map(|i| i as f32 - 4.0).collect();
            let b: Vec<f32> = (0..length).map(|i| 2.0 - i as f32 * 0.5).collect();
            let expected: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            assert_eq!(vectorized(|| dot(&a, &b)), expected);
            assert_eq!(vectorized(|| largest(&a)), length as f32 - 5.0);
            let mut exponentials = a.clone();
            let sum = vectorized(|| exp_shifted(&mut exponentials, 1.0));
            let expected: f64 = a.iter().map(|a| (f64::from(*a) - 1.0).exp()).sum();
            assert!((f64::from(sum) / expected - 1.0).abs() < 1e-6);
        }
    }
}
