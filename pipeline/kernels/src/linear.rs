//! The matrix product of a layer without bias.

use burn::tensor::Tensor;

/// `input · weightᵀ`.
///
/// # Shapes
/// - `input`: `[.., input_size]`
/// - `weight`: `[output_size, input_size]`, as PyTorch and Hugging Face store it
/// - output: `[.., output_size]`
pub fn linear<const D: usize>(input: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    let [output_size, input_size] = weight.dims();
    let mut shape = input.dims();
    let rows = shape.iter().product::<usize>() / input_size;
    shape[D - 1] = output_size;
    input.reshape([rows, input_size]).matmul(weight.transpose()).reshape(shape)
}
