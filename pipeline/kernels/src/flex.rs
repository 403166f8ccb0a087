//! Tensors of the CPU backend as slices.

use burn::tensor::{Bytes, DType};
use burn_flex::{FlexTensor, Layout};

/// The values of a contiguous tensor of 32-bit floats.
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("the caller made it contiguous and checked its type")
}

/// A tensor of the shape of `tensor`.
pub(crate) fn tensor_like(tensor: &FlexTensor, values: Vec<f32>) -> FlexTensor {
    let layout = Layout::contiguous(tensor.layout().shape().clone());
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}
