//! How fast this machine reads its memory: what decoding, which reads every weight for every token, waits for.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};

/// Passes over the buffers, of which the fastest counts: others meet other programs.
const PASSES: usize = 6;

/// Independent sums, so that additions do not wait for each other.
const SUMS: usize = 8;

/// What [`measured_bandwidth`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// Read by all threads together.
    pub bytes_per_s: f64,
    /// Threads that read: those of rayon's global pool.
    pub threads: usize,
}

/// The fastest that all threads together read `bytes` of memory, each a part of its own, in order. `bytes` must be several times
/// the last-level cache, or it is that which is measured. Takes that much memory and a fraction of a second a gigabyte.
pub fn measured_bandwidth(bytes: usize) -> Bandwidth {
    let threads = rayon::current_num_threads();
    let length = (bytes / threads / size_of::<f32>()).max(1);
    // Written by the thread that reads it, so that its pages are near it.
    let buffers = rayon::broadcast(|_| Mutex::new(vec![1.0_f32; length]));
    let bytes_per_s = (0..PASSES).map(|_| {
        let started = Instant::now();
        rayon::broadcast(|context| {
            let buffer = buffers[context.index()].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            black_box(Arch::new().dispatch(Sum(&buffer)));
        });
        (threads * length * size_of::<f32>()) as f64 / started.elapsed().as_secs_f64()
    });
    Bandwidth { bytes_per_s: bytes_per_s.fold(0.0, f64::max), threads }
}

struct Sum<'a>(&'a [f32]);

impl WithSimd for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (vectors, rest) = S::as_simd_f32s(self.0);
        let (groups, last) = vectors.as_chunks::<SUMS>();
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        for group in groups {
            for (sum, values) in sums.iter_mut().zip(group) {
                *sum = simd.add_f32s(*sum, *values);
            }
        }
        let sums = sums.into_iter().chain(last.iter().copied());
        let sum = sums.fold(simd.splat_f32s(0.0), |sum, values| simd.add_f32s(sum, values));
        simd.reduce_sum_f32s(sum) + rest.iter().sum::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_read_once() {
        for length in [1, 15, 16, 127, 129, 1000] {
            let values: Vec<f32> = (0..length).map(|i| i as f32).collect();
            // Whole numbers under 2²⁴: any order of the sum is exact.
            assert_eq!(Arch::new().dispatch(Sum(&values)), (length * (length - 1) / 2) as f32);
        }
    }

    #[test]
    fn the_bandwidth_is_that_of_a_memory() {
        let bandwidth = measured_bandwidth(64 << 20);
        assert_eq!(bandwidth.threads, rayon::current_num_threads());
        // From a tenth of a single bank of the oldest DDR4 to what 64 MB in the caches of a server give.
        let most = 100e9 * bandwidth.threads as f64;
        assert!(bandwidth.bytes_per_s > 1e9 && bandwidth.bytes_per_s < most, "{bandwidth:?}");
    }
}
