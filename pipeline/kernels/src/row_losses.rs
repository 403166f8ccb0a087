//! Losses of rows of logits on the CPU, each while its row is in the cache.

use burn::backend::Flex;
use burn::tensor::{Int, Shape, Tensor};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::flex::{last_dimension, shaped, tensor_like, values};
use crate::level::vectorized;
use crate::loss_head::ChunkLoss;
use crate::simd::{exp_shifted, largest, sum_exp};

/// Values that a task handles at least.
const VALUES_PER_TASK: usize = 1 << 15;

/// `Σ -ln softmax(logits)[target]`, gradient `softmax(logits) - onehot(target)`, which overwrites the logits unless
/// somebody else holds them.
///
/// # Shapes
/// - `logits`: `[rows, vocab_size]`
/// - `targets`: `[rows]`
///
/// # Panics
/// If [`crate::implementation_for`] the logits is not fused.
pub fn cross_entropy_rows(logits: Tensor<2>, targets: Tensor<1, Int>) -> ChunkLoss {
    let mut logits = primitive(logits);
    let targets = indices(targets);
    let vocab_size = last_dimension(&logits);
    let rows = rows_per_task(vocab_size);
    let tasks = logits.storage_mut::<f32>().par_chunks_mut(rows * vocab_size).zip(targets.par_chunks(rows));
    let losses = tasks.map(|(logits, targets)| {
        vectorized(
            #[inline(always)]
            || {
                // A `for`: the folds of iterators are functions of their own, without the instructions of this one.
                let mut value = 0.0;
                for (row, target) in logits.chunks_mut(vocab_size).zip(targets) {
                    value += cross_entropy_row(row, *target);
                }
                value
            },
        )
    });
    chunk_loss(losses.collect(), logits)
}

/// The value of [`cross_entropy_rows`] alone, to the last bit: `[1]`.
///
/// # Shapes
/// As [`cross_entropy_rows`].
///
/// # Panics
/// As [`cross_entropy_rows`].
pub fn cross_entropy_sum_rows(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let logits = primitive(logits);
    let targets = indices(targets);
    let vocab_size = last_dimension(&logits);
    let rows = rows_per_task(vocab_size);
    let tasks = values(&logits).par_chunks(rows * vocab_size).zip(targets.par_chunks(rows));
    let losses = tasks.map(|(logits, targets)| {
        vectorized(
            #[inline(always)]
            || {
                let mut value = 0.0;
                for (row, target) in logits.chunks(vocab_size).zip(targets) {
                    let largest = largest(row);
                    value += f64::from(sum_exp(row, largest, 1.0)).ln() + f64::from(largest - row[*target]);
                }
                value
            },
        )
    });
    sum(losses.collect())
}

pub(crate) fn indices<const D: usize>(targets: Tensor<D, Int>) -> Vec<usize> {
    targets.into_data().iter::<i64>().map(|target| target as usize).collect()
}

#[inline(always)]
fn cross_entropy_row(row: &mut [f32], target: usize) -> f64 {
    let target_logit = row[target];
    let largest = largest(row);
    let sum = exp_shifted(row, largest);
    let scale = sum.recip();
    row.iter_mut().for_each(|value| *value *= scale);
    row[target] -= 1.0;
    f64::from(sum).ln() + f64::from(largest - target_logit)
}

/// The tensor alone in its buffer.
pub(crate) fn primitive(tensor: Tensor<2>) -> FlexTensor {
    let tensor = tensor.try_into_primitive::<Flex>().expect("untracked, on the flex backend");
    // Not `to_contiguous` where it is: that would share the buffer, and a shared one is copied before it is written.
    let tensor = if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() };
    if tensor.storage::<f32>().len() == values(&tensor).len() {
        return tensor;
    }
    // Some rows of a tensor, whose other rows are in the buffer too.
    tensor_like(&tensor, values(&tensor).to_vec())
}

pub(crate) fn rows_per_task(vocab_size: usize) -> usize {
    VALUES_PER_TASK.div_ceil(vocab_size)
}

pub(crate) fn chunk_loss(losses: Vec<f64>, logit_gradient: FlexTensor) -> ChunkLoss {
    ChunkLoss { loss_sum: sum(losses), logit_gradient: Tensor::from_primitive::<Flex>(logit_gradient) }
}

/// The tasks' sums have one order, whatever the threads.
fn sum(losses: Vec<f64>) -> Tensor<1> {
    Tensor::from_primitive::<Flex>(shaped(Shape::new([1]), vec![losses.iter().sum::<f64>() as f32]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::drawn;
    use burn::tensor::Device;

    #[test]
    fn rows_of_a_larger_tensor_are_alone() {
        let logits = drawn::<2>(4, [5, 7], -3.0..3.0);
        let targets = Tensor::from_ints([6, 0], &Device::flex());
        let alone = Tensor::from_data(logits.clone().narrow(0, 2, 2).into_data(), &Device::flex());
        let of = |logits: Tensor<2>| {
            let loss = cross_entropy_rows(logits, targets.clone());
            (loss.loss_sum.into_data(), loss.logit_gradient.into_data())
        };
        assert_eq!(of(logits.narrow(0, 2, 2)), of(alone));
    }
}
