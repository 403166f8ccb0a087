//! A student cut from its teacher by what matters on calibration data.
//!
//! ```text
//! teacher ─ rows of the student's tokens ─ remove_blocks ─ WidthImportance::measure ─ WidthImportance::cut ─▶ student
//!                                          greedy, by loss   one pass, heads, neurons, channels
//! ```

mod depth;
mod report;
mod width;

use burn::tensor::Device;
use limbeck_config::ModelConfig;
use limbeck_data::Batch;
use limbeck_model::{Cut, Transformer};

use self::depth::remove_blocks;
use crate::error::TrainError;
use crate::evaluation::head_loss_sum;

pub use self::report::{BlockImportance, BlockReport, Calibration, Change, ChannelReport, PruneReport, RemovedBlock};
pub use self::width::WidthImportance;

/// What a cut does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PruneEvent {
    /// The loss of the whole model on the calibration data, over the student's tokens.
    Loss {
        /// Mean over the targets.
        loss_nats: f64,
    },
    /// A block was removed.
    Block {
        /// Which.
        removed: RemovedBlock,
        /// Blocks that are still to be removed.
        left: usize,
    },
}

/// A model that was cut, and from what.
#[derive(Debug)]
pub struct Pruned {
    /// The smaller model.
    pub model: Transformer,
    /// What went.
    pub report: PruneReport,
}

/// `model` cut to `shape`: first its tokens to `tokens` (ids of the model in the order of the student's; `None`: all), then
/// its blocks, then heads, neurons and channels of what is left, each measured on `batches`, which hold the student's ids.
/// A pure function of its arguments.
///
/// # Errors
/// If the loss on the batches is not finite.
///
/// # Panics
/// If `shape` is no smaller shape of `model`: `PruneSection::resolve` of `limbeck-config` gives one that is.
pub fn prune(
    model: &Transformer,
    tokens: Option<&[u32]>,
    shape: &ModelConfig,
    batches: &[Batch],
    device: &Device,
    on_event: &mut dyn FnMut(PruneEvent),
) -> Result<Pruned, TrainError> {
    let whole = model.config();
    let inner = model.device();
    let gathered = tokens.map(|ids| Cut::to_tokens(whole, ids).apply(model, &inner)).transpose()?;
    let model = gathered.as_ref().unwrap_or(model);
    let before = calibration_loss(model, batches)?;
    on_event(PruneEvent::Loss { loss_nats: before });
    let (kept, importance) = remove_blocks(model, before, shape.num_hidden_layers, batches, on_event);
    let mut blocks = Cut::nothing(model.config());
    blocks.blocks.retain(|block| kept.contains(&block.block));
    let shallow = blocks.apply(model, &inner)?;
    let width = WidthImportance::measure(&shallow, batches);
    let cut = width.cut(shallow.config(), shape);
    let student = cut.apply(&shallow, device)?;
    let after = calibration_loss(&student, batches)?;
    let report = PruneReport {
        calibration: Calibration::of(batches),
        parameters: Change { before: whole.parameter_count(), after: student.config().parameter_count() },
        vocab_size: Change { before: whole.vocab_size, after: shape.vocab_size },
        loss_nats: Change { before, after },
        removed: importance,
        blocks: report::blocks(&kept, &cut, &width),
        channels: ChannelReport::of(&cut, &width),
    };
    Ok(Pruned { model: student, report })
}

/// The mean cross-entropy of `model` over the targets of `batches`, in the model's precision.
///
/// # Errors
/// If it is not finite.
pub fn calibration_loss(model: &Transformer, batches: &[Batch]) -> Result<f64, TrainError> {
    let model = model.clone().without_autodiff();
    let sum = |batch: &Batch| {
        let hidden = model.hidden(&batch.inputs, &batch.positions, batch.sequence_length);
        head_loss_sum(&model, hidden, batch)
    };
    let loss_nats = batches.iter().map(sum).sum::<f64>() / targets(batches);
    if loss_nats.is_finite() { Ok(loss_nats) } else { Err(TrainError::Calibration { loss_nats }) }
}

/// Targets of the batches.
pub(crate) fn targets(batches: &[Batch]) -> f64 {
    batches.iter().map(Batch::target_tokens).sum::<usize>() as f64
}
