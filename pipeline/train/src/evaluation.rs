//! Loss on held-out data.

use burn::tensor::Tensor;
use limbeck_data::{Batch, Mixture};
use limbeck_kernels::{Precision, loss_head_value};
use limbeck_loss::cross_entropy_sum;
use limbeck_model::Transformer;
use serde::Serialize;

use crate::objective::TargetRows;

/// Cross-entropy over every target token of one data entry.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Path of the entry.
    pub data: String,
    /// Sum over the target tokens, end-of-text or end-of-turn included.
    pub nats: f64,
    /// Targets.
    pub target_tokens: u64,
    /// UTF-8 bytes of the texts that were scored.
    pub bytes: u64,
}

impl Score {
    /// Mean over the target tokens.
    pub fn loss_nats(&self) -> f64 {
        self.nats / self.target_tokens as f64
    }

    /// Nats over ln 2 and the text's bytes: comparable between tokenizers.
    pub fn bits_per_byte(&self) -> f64 {
        self.nats / std::f64::consts::LN_2 / self.bytes as f64
    }

    /// Several entries as one.
    pub fn total<'a>(scores: impl IntoIterator<Item = &'a Score>) -> Score {
        let zero = Score { data: "all".to_owned(), nats: 0.0, target_tokens: 0, bytes: 0 };
        scores.into_iter().fold(zero, |sum, score| Score {
            data: sum.data,
            nats: sum.nats + score.nats,
            target_tokens: sum.target_tokens + score.target_tokens,
            bytes: sum.bytes + score.bytes,
        })
    }
}

/// The score of `model` on every entry of `data`, each segment once, in 32-bit floats whatever it trains in.
/// `on_batch` is told after each batch.
pub fn evaluate(model: &Transformer, data: &Mixture, rows_per_batch: usize, mut on_batch: impl FnMut()) -> Vec<Score> {
    let model = model.clone().without_autodiff().with_precision(Precision::Fp32);
    let mut scores = Vec::new();
    for entry in data.evaluation(rows_per_batch) {
        let (mut nats, mut target_tokens) = (0.0, 0);
        for batch in entry.batches {
            target_tokens += batch.target_tokens() as u64;
            nats += loss_sum(&model, &batch);
            on_batch();
        }
        scores.push(Score { data: entry.path, nats, target_tokens, bytes: entry.scored_bytes });
    }
    scores
}

/// Sums of batches are added up in 64 bits.
fn loss_sum(model: &Transformer, batch: &Batch) -> f64 {
    head_loss_sum(model, model.hidden(&batch.inputs, &batch.positions, batch.sequence_length), batch)
}

/// The sum of the cross-entropies of a batch from its last hidden states.
pub(crate) fn head_loss_sum(model: &Transformer, hidden: Tensor<2>, batch: &Batch) -> f64 {
    let rows = TargetRows::of(batch, &model.device());
    let sum = loss_head_value(rows.select(hidden), model.output_weight(), model.precision(), |logits, chunk| {
        cross_entropy_sum(logits, rows.targets.clone().narrow(0, chunk.start, chunk.len()))
    });
    sum.map_or(0.0, |sum| f64::from(sum.into_scalar::<f32>()))
}
