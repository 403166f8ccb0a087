//! Training: one trainer and one step for every stage.
//!
//! ```text
//! Trainer::run ── for each step ──> Mixture::batch(step) ─> Trainer::step ─> Objective::loss ─> Transformer::hidden
//!      │                             └─ OnPolicy::lesson         └─ backward, global norm, AdamW in place
//!      └─ plain `if`s: a row of metrics.jsonl, an evaluation, a checkpoint, a stop
//! ```

mod alignment;
mod capture;
mod checkpoint;
mod comparison;
#[cfg(feature = "dashboard")]
mod dashboard;
mod error;
mod evaluation;
mod input_squares;
mod kept_mass;
mod metrics;
mod objective;
mod on_policy;
mod optimizer;
mod progress;
mod prune;
mod read_ahead;
mod recompute;
mod run;
mod schedule;
mod speculation;
mod step;
mod teacher;

pub use alignment::HiddenAlignment;
pub use capture::{CaptureEnding, CaptureEvent, capture};
pub use checkpoint::{load_alignment, load_optimizer, write_model, write_step};
pub use comparison::{Comparison, compare};
pub use error::TrainError;
pub use evaluation::{Score, evaluate};
pub use input_squares::input_mean_squares;
pub use kept_mass::{KeptMass, kept_mass};
pub use metrics::{Metrics, MetricsRow};
pub use objective::{Distillation, Learner, NextToken, Objective, next_token_loss};
pub use on_policy::{Lesson, OnPolicy, Sampled};
pub use optimizer::{AdamW, GradientScale, GroupSettings, gradient_norm};
pub use progress::{Display, Progress};
pub use prune::{
    BlockImportance, BlockReport, Calibration, Change, ChannelReport, PruneEvent, PruneReport, Pruned, RemovedBlock,
    WidthImportance, calibration_loss, prune,
};
pub use read_ahead::ReadAhead;
pub use run::{Ending, Run};
pub use schedule::learning_rate;
pub use speculation::{Blocks, Chance, chances, expected_tokens, speed_up};
pub use step::{AlignmentTrainer, StepGradients, StepReport, Trainer};
pub use teacher::Teacher;
