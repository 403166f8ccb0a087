//! Next-token cross-entropy.

use burn::tensor::activation::log_softmax;
use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use limbeck_kernels::{ChunkLoss, Implementation, cross_entropy_rows, cross_entropy_sum_rows, implementation_for};

/// `Σ -ln softmax(logits)[target]`, gradient `softmax(logits) - onehot(target)`.
///
/// # Shapes
/// - `logits`: `[rows, vocab_size]`
/// - `targets`: `[rows]`
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> ChunkLoss {
    match implementation_for(&logits) {
        Implementation::Fused => cross_entropy_rows(logits, targets),
        Implementation::Composed => composed(logits, targets),
    }
}

fn composed(logits: Tensor<2>, targets: Tensor<1, Int>) -> ChunkLoss {
    let targets = targets.unsqueeze_dim(1); // [rows, 1]
    // Log-sum-exp and softmax from one exponential a logit, the most expensive part of the loss.
    let largest = logits.clone().max_dim(1); // [rows, 1]
    let target_logits = logits.clone().gather(1, targets.clone()) - largest.clone();
    let exponentials = (logits - largest).exp();
    let sums = exponentials.clone().sum_dim(1); // [rows, 1]
    let loss_sum = (sums.clone().log() - target_logits).sum();
    let minus_one = Tensor::full(targets.dims(), -1.0, &exponentials.device());
    let logit_gradient = (exponentials / sums).scatter(1, targets, minus_one, IndexingUpdateOp::Add);
    ChunkLoss { loss_sum, logit_gradient }
}

/// The value of [`cross_entropy`] alone: `[1]`.
///
/// # Shapes
/// As [`cross_entropy`].
pub fn cross_entropy_sum(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    match implementation_for(&logits) {
        Implementation::Fused => cross_entropy_sum_rows(logits, targets),
        Implementation::Composed => sum_composed(logits, targets),
    }
}

fn sum_composed(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, targets.unsqueeze_dim(1)).sum().neg()
}
