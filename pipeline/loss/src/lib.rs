//! Row losses: the value and the gradient by the logits, without autodiff.
//!
//! One file a loss, in arithmetic that is tensor operations on every device, and on the CPU a loop over a row. All are sums
//! in nats over the rows; the trainer divides by the target tokens of the whole optimizer step. They run inside
//! [`limbeck_kernels::loss_head`], which never lets more than a chunk of rows exist.
//!
//! ```text
//! student's logits ─┬────────────────────────────────▶ softmax of both, ln(q / p) ──▶ divergence ──▶ value, gradient
//! teacher's logits ─┘                                          ▲                                        │
//! student's logits, SparseTargets ──▶ a few classes and the rest                  gradient of every id ◀┘
//! ```
//!
//! The README beside this crate has the definitions with their sources, and what other tools have in their place.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use limbeck_config::Divergence;
//! use limbeck_loss::DivergenceLoss;
//!
//! let device = Device::flex();
//! let loss =
//!     DivergenceLoss { divergence: Divergence::ForwardKl {}, temperature: 1.0, scale_by_temperature_squared: true };
//! // p = (4/5, 1/5), q = (1/2, 1/2)
//! let teacher = Tensor::from_floats([[4f32.ln(), 0.0]], &device);
//! let forward_kl = loss.dense(Tensor::zeros([1, 2], &device), teacher);
//! let expected = 0.8 * 1.6f32.ln() + 0.2 * 0.4f32.ln();
//! assert!((forward_kl.loss_sum.into_scalar::<f32>() - expected).abs() < 1e-6);
//! ```

mod coarse;
mod cross_entropy;
mod divergence;
mod error;
mod forward_kl;
mod hidden;
mod jensen_shannon;
mod log_domain;
mod mixed;
mod pair;
mod real;
mod reverse_kl;
mod skewed_forward_kl;
mod skewed_reverse_kl;
mod sparse;
#[cfg(test)]
mod tests;
mod total_variation;

pub use cross_entropy::{cross_entropy, cross_entropy_sum};
pub use divergence::DivergenceLoss;
pub use error::LossError;
pub use hidden::{StateLoss, hidden_distance};
pub use limbeck_kernels::ChunkLoss;
pub use mixed::MixedLoss;
pub use sparse::{SparseRows, SparseTargets};
