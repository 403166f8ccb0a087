//! How much of a teacher's distribution a smaller vocabulary keeps.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use limbeck_data::Batch;
use limbeck_kernels::loss_head_value;
use limbeck_model::Transformer;

use crate::objective::TargetRows;

/// Probability that a teacher gives to the tokens that its student knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeptMass {
    /// Mean over the targets.
    pub mean: f64,
    /// Targets.
    pub targets: usize,
}

/// The mass that `teacher`, with its whole vocabulary, puts on the tokens `ids` where `batch`, which is in the student's
/// ids, has a target. The student's id `i` is the teacher's `ids[i]`. What is not kept is shared out among the kept tokens
/// when the teacher's rows are gathered: its distribution becomes the one given that the next token is one of them.
pub fn kept_mass(teacher: &Transformer, ids: &[u32], batch: &Batch) -> KeptMass {
    let device = teacher.device();
    let rows = TargetRows::of(batch, &device);
    let inputs: Vec<u32> = batch.inputs.iter().map(|id| ids[*id as usize]).collect();
    let hidden = rows.select(teacher.hidden(&inputs, &batch.positions, batch.sequence_length));
    let kept: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
    let kept = Tensor::<1, Int>::from_data(TensorData::new(kept, [ids.len()]), &device);
    let sum = loss_head_value(hidden, teacher.output_weight(), teacher.precision(), |logits, _| {
        log_softmax(logits, 1).select(1, kept.clone()).exp().sum()
    });
    let targets = batch.target_tokens();
    let sum = sum.map_or(0.0, |sum| f64::from(sum.into_scalar::<f32>()));
    KeptMass { mean: sum / targets as f64, targets }
}
