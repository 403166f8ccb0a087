//! Tensors of the CPU backend as slices.

use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};
use half::bf16;

use crate::gemm::Matrix;

/// The values of a contiguous tensor of 32-bit floats.
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("the caller made it contiguous and checked its type")
}

/// A contiguous tensor as rows of its last dimension.
pub(crate) fn matrix(tensor: &FlexTensor) -> Matrix<'_> {
    let columns = last_dimension(tensor);
    let values = values(tensor);
    Matrix::new(values, values.len().checked_div(columns).unwrap_or(0), columns, columns)
}

/// Size of the last dimension.
pub(crate) fn last_dimension(tensor: &FlexTensor) -> usize {
    tensor.layout().shape().last().copied().unwrap_or(1)
}

/// A tensor of the shape of `tensor`.
pub(crate) fn tensor_like(tensor: &FlexTensor, values: Vec<f32>) -> FlexTensor {
    shaped(tensor.layout().shape().clone(), values)
}

/// A contiguous tensor.
pub(crate) fn shaped(shape: Shape, values: Vec<f32>) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}

/// A buffer for values that the caller writes, every one of them, before it reads any. Zeroing it first would cost as
/// much as many of the operators that fill it.
pub(crate) fn unwritten(length: usize) -> Vec<f32> {
    if cfg!(test) {
        // Poison: what an operator leaves out shows in its result.
        return vec![f32::NAN; length];
    }
    // SAFETY: every bit pattern is an f32, and nothing is read before it is written: the poison above would show.
    unsafe { Box::new_uninit_slice(length).assume_init() }.into_vec()
}

/// [`unwritten`], of 16-bit brain floats.
pub(crate) fn unwritten_halves(length: usize) -> Vec<bf16> {
    if cfg!(test) {
        return vec![bf16::NAN; length];
    }
    // SAFETY: as in `unwritten`.
    unsafe { Box::new_uninit_slice(length).assume_init() }.into_vec()
}
