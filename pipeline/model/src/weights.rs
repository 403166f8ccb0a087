//! Named tensors on the host, and safetensors files.

use std::collections::BTreeMap;

/// A tensor on the host, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
    /// As many values as the shape says.
    pub values: Vec<f32>,
}

/// Tensors by Hugging Face's names; matrices are `[output_size, input_size]`.
pub type NamedTensors = BTreeMap<String, HostTensor>;
