//! Row losses: the value and the gradient by the logits, in plain tensor operations without autodiff.
//!
//! One file a loss. All are sums in nats over the rows; the trainer divides by the target tokens of the whole optimizer
//! step. They run inside [`limbeck_kernels::loss_head`], which never lets more than a chunk of rows exist.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! let device = Device::flex();
//! let loss = limbeck_loss::cross_entropy(Tensor::zeros([3, 7], &device), Tensor::from_ints([0, 6, 2], &device));
//! assert!((loss.loss_sum.into_scalar::<f32>() - 3.0 * 7f32.ln()).abs() < 1e-5);
//! ```

mod cross_entropy;
mod divergence;
mod forward_kl;

pub use cross_entropy::{cross_entropy, cross_entropy_sum};
pub use divergence::{divergence, mix};
pub use forward_kl::forward_kl;
pub use limbeck_kernels::ChunkLoss;
