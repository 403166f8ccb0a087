//! What a cut took away: `prune.json`.

use limbeck_data::Batch;
use limbeck_model::Cut;
use serde::Serialize;

use crate::prune::width::WidthImportance;

/// What a cut took away, and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PruneReport {
    /// What everything was measured on.
    pub calibration: Calibration,
    /// Numbers to learn.
    pub parameters: Change<usize>,
    /// Rows of the embedding.
    pub vocab_size: Change<usize>,
    /// Mean loss on the calibration data: of the whole model over the student's tokens, and of the student, before any
    /// training.
    pub loss_nats: Change<f64>,
    /// The blocks that went.
    pub removed: BlockImportance,
    /// Those that stay.
    pub blocks: Vec<BlockReport>,
    /// Channels of the stream between the blocks.
    pub channels: ChannelReport,
}

/// A number of the model that was cut, and of what it was cut to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change<T> {
    /// Of the model that was cut.
    pub before: T,
    /// Of the student.
    pub after: T,
}

/// The calibration data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Rows of the training data.
    pub rows: usize,
    /// Tokens, padding included.
    pub tokens: usize,
    /// Tokens that are predicted.
    pub target_tokens: usize,
}

/// What blocks are worth.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BlockImportance {
    /// For each block of the whole model, the calibration loss without it alone. Empty where no block goes.
    pub loss_without_nats: Vec<f64>,
    /// The blocks that went, in that order.
    pub removed: Vec<RemovedBlock>,
}

/// A block that went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RemovedBlock {
    /// Its number in the whole model.
    pub block: usize,
    /// The calibration loss without it and those before it.
    pub loss_nats: f64,
}

/// What went of a block that stays.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BlockReport {
    /// Its number in the whole model.
    pub block: usize,
    /// Query heads that went.
    pub dropped_heads: Vec<usize>,
    /// Their share of the block's importance of heads.
    pub dropped_heads_share: f64,
    /// Neurons that there were, and that stay.
    pub neurons: Change<usize>,
    /// The share of the block's importance of neurons that went.
    pub dropped_neurons_share: f64,
}

/// What went of the stream between the blocks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChannelReport {
    /// Channels that went.
    pub dropped: Vec<usize>,
    /// Their share of the importance.
    pub dropped_share: f64,
}

impl Calibration {
    pub(super) fn of(batches: &[Batch]) -> Self {
        Self {
            rows: batches.iter().map(|batch| batch.rows).sum(),
            tokens: batches.iter().map(|batch| batch.inputs.len()).sum(),
            target_tokens: batches.iter().map(Batch::target_tokens).sum(),
        }
    }
}

impl ChannelReport {
    pub(super) fn of(cut: &Cut, importance: &WidthImportance) -> Self {
        let (dropped, dropped_share) = dropped(&importance.channels, &cut.channels);
        Self { dropped, dropped_share }
    }
}

/// The reports of the blocks `kept` of the whole model, after `cut`.
pub(super) fn blocks(kept: &[usize], cut: &Cut, importance: &WidthImportance) -> Vec<BlockReport> {
    let report = |(block, cut): (&usize, &limbeck_model::BlockCut)| {
        let (dropped_heads, dropped_heads_share) = dropped(&importance.heads[cut.block], &cut.heads);
        let neurons = &importance.neurons[cut.block];
        BlockReport {
            block: *block,
            dropped_heads,
            dropped_heads_share,
            neurons: Change { before: neurons.len(), after: cut.neurons.len() },
            dropped_neurons_share: dropped(neurons, &cut.neurons).1,
        }
    };
    kept.iter().zip(&cut.blocks).map(report).collect()
}

/// The places of `importance` that are not in `kept`, and their share of the sum.
fn dropped(importance: &[f64], kept: &[usize]) -> (Vec<usize>, f64) {
    let dropped: Vec<usize> = (0..importance.len()).filter(|place| !kept.contains(place)).collect();
    let lost: f64 = dropped.iter().map(|place| importance[*place]).sum();
    let all: f64 = importance.iter().sum();
    // The sum of nothing is -0.
    let share = if dropped.is_empty() || all <= 0.0 { 0.0 } else { lost / all };
    (dropped, share)
}
