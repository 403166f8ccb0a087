//! The operators of a training step: linear, RMSNorm, rotary attention, SwiGLU, the loss head, AdamW.
//!
//! Every public function takes tensors on any device, with or without autodiff, and picks the implementation from
//! where its input is: fused on the CPU where there is such a body, Burn's own operations everywhere else. Nothing
//! outside this crate names a backend, so a faster body changes nothing above it.

mod adamw;
mod attention;
mod attention_backward;
mod attention_blocks;
mod attention_forward;
mod attention_heads;
mod bandwidth;
mod cached_attention;
mod coarse_rows;
mod divergence_rows;
#[cfg(test)]
mod drawn;
mod embedding;
mod feed_forward;
mod flex;
mod fused_attention;
mod fused_linear;
mod fused_loss_head;
mod fused_normed_linear;
mod gemm;
mod int8;
mod kept;
mod key_value_cache;
mod label_share;
mod level;
mod linear;
mod loss_head;
mod peak;
mod placement;
mod profile;
#[cfg(test)]
mod properties;
mod rms_norm;
mod row_losses;
mod simd;
mod sparse_rows;
mod swiglu;

pub use adamw::{AdamWUpdate, Moments, adamw_update, sum_of_squares};
pub use attention::{AttentionPlan, HeadLayout, HeadNorms, rotary_attention};
pub use bandwidth::{Bandwidth, measured_bandwidth};
pub use coarse_rows::{CoarseRows, NOTHING};
pub use divergence_rows::{Softening, divergence_rows};
pub use embedding::{embedding, embedding_composed};
pub use feed_forward::{swiglu_linear_add, swiglu_linear_add_composed};
pub use gemm::Precision;
pub use int8::{INT8_BLOCK, int8_rounded};
pub use key_value_cache::{CacheAngles, CachePlan, KeyValueCache};
pub use label_share::LabelShare;
pub use level::{SIMD_VARIABLE, simd_level, simd_levels};
pub use linear::{add_bias, linear, linear_add, linear_composed, linears, normed_linears};
pub use loss_head::{ChunkLoss, HeadLoss, loss_head, loss_head_composed, loss_head_value};
pub use peak::{Peak, measured_peak};
pub use placement::{Implementation, fastest_precision, has_fused_operators, implementation_for, multiplies};
pub use profile::{Direction, Operator, Profile, take_profile};
pub use rms_norm::{rms_norm, rms_norm_composed};
pub use row_losses::{cross_entropy_rows, cross_entropy_sum_rows};
pub use simd::{exp, ln};
pub use sparse_rows::{SparseDistributions, sparse_forward_kl_rows};
pub use swiglu::swiglu_composed;
