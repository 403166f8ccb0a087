//! Why training stopped.

use std::path::PathBuf;

/// Why training stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The loss or the gradient is not a number any more.
    #[error(
        "step {step}: the loss is `{loss_nats}` and the gradient norm `{grad_norm}`, both must be finite; the weights \
         are those before the step; hint: lower optimizer.learning_rate or raise schedule.warmup_steps, and `--resume` \
         from the last checkpoint"
    )]
    NonFinite {
        /// The step, counted from 1.
        step: u64,
        /// Its loss.
        loss_nats: f32,
        /// Its gradient norm.
        grad_norm: f32,
    },
    /// A step whose rows have nothing to learn.
    #[error("step {step}: none of its rows has a target token; hint: check `kind` and the columns of [[data.train]]")]
    NoTargets {
        /// The step, counted from 1.
        step: u64,
    },
    /// A model that says nothing of the calibration data.
    #[error(
        "the model's loss on the calibration data is `{loss_nats}`, must be finite; hint: its weights are damaged, or its \
         training went astray"
    )]
    Calibration {
        /// Mean over the targets; not a number without any.
        loss_nats: f64,
    },
    /// The optimizer's state does not belong to the model.
    #[error("optimizer state `{0}` does not belong to the model; hint: the checkpoint's files were mixed")]
    OptimizerState(String),
    /// A parameter group whose glob is malformed.
    #[error("optimizer.groups: `{pattern}` is not a glob: {source}")]
    Pattern {
        /// The glob.
        pattern: String,
        /// What is wrong.
        source: glob::PatternError,
    },
    /// `metrics.jsonl` cannot be read or written.
    #[error("`{path}`: {source}")]
    Metrics {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The terminal dashboard cannot be opened.
    #[error("--dashboard: {0}")]
    Dashboard(&'static str),
    /// The model's files.
    #[error(transparent)]
    Model(#[from] limbeck_model::ModelError),
    /// The tokenizer's files and the data.
    #[error(transparent)]
    Data(#[from] limbeck_data::DataError),
    /// The cache of a teacher's logits.
    #[error(transparent)]
    Logits(#[from] limbeck_logits::LogitsError),
    /// A teacher's distributions that do not fit the student.
    #[error(transparent)]
    Loss(#[from] limbeck_loss::LossError),
    /// The run directory.
    #[error(transparent)]
    Checkpoint(#[from] limbeck_checkpoint::CheckpointError),
}
