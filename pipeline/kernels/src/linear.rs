//! The matrix product of a layer, and its bias.

use burn::tensor::{DType, Tensor};

use crate::gemm::Precision;
use crate::placement::{Implementation, implementation_for};
use crate::rms_norm::rms_norm_composed;
use crate::{fused_linear, fused_normed_linear};

/// `input · weightᵀ`.
///
/// # Shapes
/// - `input`: `[.., input_size]`
/// - `weight`: `[output_size, input_size]`, as PyTorch and Hugging Face store it
/// - output: `[.., output_size]`
pub fn linear<const D: usize>(input: Tensor<D>, weight: Tensor<2>, precision: Precision) -> Tensor<D> {
    match implementation_for(&input) {
        Implementation::Fused => fused_linear::linear(input, weight, precision),
        Implementation::Composed => linear_composed(input, weight, precision),
    }
}

/// [`linear`] of several layers that read the same input, side by side in one tensor.
///
/// # Shapes
/// - output: `[.., Σ output_size]`
pub fn linears<const D: usize, const N: usize>(
    input: Tensor<D>,
    weights: [Tensor<2>; N],
    precision: Precision,
) -> Tensor<D> {
    match implementation_for(&input) {
        Implementation::Fused => fused_linear::linears(input, weights.to_vec(), precision),
        Implementation::Composed => linears_composed(input, weights, precision),
    }
}

/// [`linears`] of a norm's output, see [`rms_norm`](crate::rms_norm).
///
/// # Shapes
/// - `input`: `[.., input_size]`
/// - `norm_weight`: `[input_size]`
/// - output: `[.., Σ output_size]`
pub fn normed_linears<const D: usize, const N: usize>(
    input: Tensor<D>,
    norm_weight: Tensor<1>,
    epsilon: f32,
    weights: [Tensor<2>; N],
    precision: Precision,
) -> Tensor<D> {
    match implementation_for(&input) {
        Implementation::Fused => {
            fused_normed_linear::normed_linears(input, norm_weight, epsilon, weights.to_vec(), precision)
        }
        Implementation::Composed => {
            linears_composed(rms_norm_composed(input, norm_weight, epsilon), weights, precision)
        }
    }
}

fn linears_composed<const D: usize, const N: usize>(
    input: Tensor<D>,
    weights: [Tensor<2>; N],
    precision: Precision,
) -> Tensor<D> {
    Tensor::cat(weights.map(|weight| linear_composed(input.clone(), weight, precision)).to_vec(), D - 1)
}

/// A layer's output with its bias, which is of the same 32-bit floats whatever the precision of the product.
///
/// # Shapes
/// - `output` and result: `[rows, tokens, output_size]`
/// - `bias`: `[output_size]`
pub fn add_bias(output: Tensor<3>, bias: Tensor<1>) -> Tensor<3> {
    let size = bias.dims()[0];
    output + bias.reshape([1, 1, size])
}

/// `residual + input · weightᵀ`.
///
/// # Shapes
/// - `residual` and output: `[.., output_size]`
pub fn linear_add<const D: usize>(
    residual: Tensor<D>,
    input: Tensor<D>,
    weight: Tensor<2>,
    precision: Precision,
) -> Tensor<D> {
    match implementation_for(&input) {
        Implementation::Fused => fused_linear::linear_add(residual, input, weight, precision),
        Implementation::Composed => residual + linear_composed(input, weight, precision),
    }
}

/// [`linear`] from Burn's operations: the other devices' implementation, and the reference of the fused one.
pub fn linear_composed<const D: usize>(input: Tensor<D>, weight: Tensor<2>, precision: Precision) -> Tensor<D> {
    let [output_size, input_size] = weight.dims();
    let mut shape = input.dims();
    let rows = shape.iter().product::<usize>() / input_size;
    shape[D - 1] = output_size;
    matmul(input.reshape([rows, input_size]), weight.transpose(), precision).reshape(shape)
}

/// Burn's product of what is rounded to `precision`, in 32-bit floats again.
pub(crate) fn matmul<const D: usize>(left: Tensor<D>, right: Tensor<D>, precision: Precision) -> Tensor<D> {
    let dtype = match precision {
        Precision::Fp32 => return left.matmul(right),
        Precision::Bf16 => DType::BF16,
        Precision::Fp16 => DType::F16,
    };
    left.cast(dtype).matmul(right.cast(dtype)).cast(DType::F32)
}

#[cfg(test)]
mod tests;
