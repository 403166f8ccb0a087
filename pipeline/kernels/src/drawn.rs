//! Random tensors of the tests: the same on every run, whatever else draws numbers.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};

/// Uniform numbers of `range`, from SplitMix64 (Steele, Lea and Flood 2014), on the CPU.
pub(crate) fn drawn<const D: usize>(mut seed: u64, shape: [usize; D], range: Range<f32>) -> Tensor<D> {
    let next = || {
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let bits = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        range.start + (range.end - range.start) * (bits >> 40) as f32 / (1u64 << 24) as f32
    };
    let values: Vec<f32> = std::iter::repeat_with(next).take(shape.iter().product()).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}
