//! The operators of a training step: linear, RMSNorm, rotary attention, SwiGLU, the loss head, AdamW.
//!
//! Every public function takes tensors on any device, with or without autodiff, and picks the implementation from
//! where its input is: fused on the CPU where there is such a body, Burn's own operations everywhere else. Nothing
//! outside this crate names a backend, so a faster body changes nothing above it.

mod adamw;
mod attention;
mod attention_rows;
#[cfg(test)]
mod drawn;
mod flex;
mod fused_attention;
mod linear;
mod loss_head;
mod placement;
mod rms_norm;
mod simd;
mod swiglu;

pub use adamw::{AdamWUpdate, Moments, adamw_update};
pub use attention::{AttentionPlan, HeadLayout, attention, causal_mask, rotary_attention, rotate};
pub use linear::linear;
pub use loss_head::{ChunkLoss, HeadLoss, loss_head, loss_head_value};
pub use placement::{Implementation, implementation_for};
pub use rms_norm::{rms_norm, rms_norm_composed};
pub use swiglu::{swiglu, swiglu_composed};
