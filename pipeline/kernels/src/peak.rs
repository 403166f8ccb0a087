//! How fast this machine's arithmetic is: what a kernel's speed is a share of.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};

use crate::gemm::{Precision, Tiles, with_kernel};

/// Independent chains of additions. A fused multiply-add takes 4 cycles and two begin in each on the processors of
/// the last ten years, so 8 would do; 12 with the two factors still fit the 16 registers of AVX2.
const CHAINS: usize = 12;

/// Operations of one chain between two looks at the clock: a few milliseconds.
const ROUNDS: usize = 1 << 20;

/// Tiles of 16-bit floats between two looks at the clock.
const TILES: usize = 1 << 12;

/// Measurements, of which the fastest counts: the first ones raise the processor's clock, others meet other programs.
const ATTEMPTS: usize = 100;

/// What [`measured_peak`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Multiplications and additions a second, of all threads together.
    pub flops_per_s: f64,
    /// Threads that computed: those of rayon's global pool.
    pub threads: usize,
}

/// The fastest that the processor multiplies and adds on every thread, with the best instructions that it has for
/// `precision`: 32-bit floats from registers, 16-bit ones from panels in the first-level cache. Takes a fraction of a second.
///
/// Measured, not looked up: the clock of a core under wide vectors is nowhere to be read, least of all in a virtual machine.
pub fn measured_peak(precision: Precision) -> Peak {
    let threads = rayon::current_num_threads();
    let flops_per_s = (0..ATTEMPTS).map(|_| {
        let started = Instant::now();
        let flops = rayon::broadcast(|_| match precision {
            Precision::Fp32 | Precision::Fp16 => Arch::new().dispatch(Fp32Chains),
            Precision::Bf16 => with_kernel(precision, Tiles { repetitions: TILES }),
        });
        let flops: usize = flops.iter().sum();
        flops as f64 / started.elapsed().as_secs_f64()
    });
    Peak { flops_per_s: flops_per_s.fold(0.0, f64::max), threads }
}

/// Gives the floating-point operations that it carried out.
struct Fp32Chains;

impl WithSimd for Fp32Chains {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        // Towards term / (1 - factor) = 1: neither an infinity nor a number too small to be fast. Every chain starts
        // elsewhere, or the compiler would compute one for all.
        let factor = simd.splat_f32s(black_box(0.75));
        let term = simd.splat_f32s(black_box(0.25));
        let mut chains: [S::f32s; CHAINS] = std::array::from_fn(|i| simd.splat_f32s(black_box(i as f32)));
        for _ in 0..ROUNDS {
            for chain in &mut chains {
                *chain = simd.mul_add_e_f32s(*chain, factor, term);
            }
        }
        let sum = chains.into_iter().reduce(|sum, chain| simd.add_f32s(sum, chain));
        black_box(sum.map(|sum| simd.reduce_sum_f32s(sum)));
        2 * CHAINS * ROUNDS * S::F32_LANES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_that_of_a_processor() {
        let peak = measured_peak(Precision::Fp32);
        assert_eq!(peak.threads, rayon::current_num_threads());
        // From one multiplication and addition a nanosecond in all, on a machine that is emulated or very busy, to 4 GHz with
        // two units of 16 on every thread and half as much again.
        let most = 4e9 * 64.0 * 1.5 * peak.threads as f64;
        assert!(peak.flops_per_s > 2e9 && peak.flops_per_s < most, "{peak:?}");
    }
}
