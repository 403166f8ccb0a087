//! The gated activation of the feed-forward layer.

use burn::tensor::Tensor;
use burn::tensor::activation::silu;

/// `silu(gate) * up` (SwiGLU: Shazeer 2020, arXiv:2002.05202).
///
/// # Shapes
/// `gate`, `up` and the output are alike.
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    silu(gate) * up
}
