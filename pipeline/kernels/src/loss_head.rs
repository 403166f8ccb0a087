//! Output weights and loss as one operator, so that `[tokens, vocab_size]` never exists.
//!
//! Rows of hidden states meet the output weights a chunk at a time. A row loss turns the chunk's logits into a value and
//! the gradient by the logits, in plain tensor operations without autodiff; the gradients by the hidden states and
//! the weights are made on the spot and enter autodiff ready-made. A new divergence is a new row loss and nothing else.

use std::ops::Range;

use burn::tensor::Tensor;

/// Logits that a chunk holds at most: 16 MiB of 32-bit floats. Fixed, so that the order of the sums is too.
const LOGITS_PER_CHUNK: usize = 1 << 22;

/// What a row loss says of a chunk.
#[derive(Clone, Debug)]
pub struct ChunkLoss {
    /// Sum over the chunk's rows, in nats: `[1]`.
    pub loss_sum: Tensor<1>,
    /// Derivative of `loss_sum` by the logits: `[rows, vocab_size]`.
    pub logit_gradient: Tensor<2>,
}

/// The loss over all rows.
#[derive(Clone, Debug)]
pub struct HeadLoss {
    /// Sum over the rows, in nats, off the autodiff graph: `[1]`.
    pub loss_sum: Tensor<1>,
    /// `Σ hidden · ∂hidden + Σ weight · ∂weight` with constant gradients: not the loss, but its `backward` is. `[1]`
    pub surrogate: Tensor<1>,
}

/// The loss of every row, and a scalar whose backward pass gives its gradients.
///
/// # Shapes
/// - `hidden`: `[rows, hidden_size]`, with autodiff
/// - `weight`: `[vocab_size, hidden_size]`, with autodiff
/// - `row_loss`: takes logits `[chunk, vocab_size]` and the range of rows that they stand for
pub fn loss_head(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    mut row_loss: impl FnMut(Tensor<2>, Range<usize>) -> ChunkLoss,
) -> HeadLoss {
    let (hidden_values, weight_values) = (hidden.clone().inner(), weight.clone().inner());
    let mut loss_sum: Option<Tensor<1>> = None;
    let mut weight_gradient: Option<Tensor<2>> = None;
    let mut hidden_gradients = Vec::new();
    for rows in chunks(hidden_values.dims()[0], weight_values.dims()[0]) {
        let chunk = hidden_values.clone().narrow(0, rows.start, rows.len()); // [chunk, hidden_size]
        let logits = chunk.clone().matmul(weight_values.clone().transpose()); // [chunk, vocab_size]
        let loss = row_loss(logits, rows);
        loss_sum = Some(add(loss_sum, loss.loss_sum));
        hidden_gradients.push(loss.logit_gradient.clone().matmul(weight_values.clone())); // [chunk, hidden_size]
        weight_gradient = Some(add(weight_gradient, loss.logit_gradient.transpose().matmul(chunk)));
    }
    let zero = || Tensor::zeros([1], &hidden_values.device());
    let surrogate = match weight_gradient {
        Some(gradient) => (hidden * Tensor::cat(hidden_gradients, 0)).sum() + (weight * gradient).sum(),
        None => zero().autodiff(),
    };
    HeadLoss { loss_sum: loss_sum.unwrap_or_else(zero), surrogate }
}

/// The sum of a value over every row, such as the loss alone, without any gradient.
///
/// # Shapes
/// As [`loss_head`]; `value` gives `[n]`, the same `n` for every chunk.
pub fn loss_head_value(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    mut value: impl FnMut(Tensor<2>, Range<usize>) -> Tensor<1>,
) -> Option<Tensor<1>> {
    let (hidden, weight) = (hidden.inner(), weight.inner());
    chunks(hidden.dims()[0], weight.dims()[0]).fold(None, |sum, rows| {
        let logits = hidden.clone().narrow(0, rows.start, rows.len()).matmul(weight.clone().transpose());
        Some(add(sum, value(logits, rows)))
    })
}

fn chunks(rows: usize, vocab_size: usize) -> impl Iterator<Item = Range<usize>> {
    let chunk = (LOGITS_PER_CHUNK / vocab_size).max(1);
    (0..rows).step_by(chunk).map(move |start| start..(start + chunk).min(rows))
}

fn add<const D: usize>(sum: Option<Tensor<D>>, term: Tensor<D>) -> Tensor<D> {
    match sum {
        Some(sum) => sum + term,
        None => term,
    }
}
