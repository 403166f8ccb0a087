//! Output weights and loss as one operator, so that `[tokens, vocab_size]` never exists.
//!
//! Rows of hidden states meet the output weights a chunk at a time. A row loss turns the chunk's logits into a value and
//! the gradient by the logits, in plain tensor operations without autodiff; the gradients by the hidden states and
//! the weights are made on the spot and enter autodiff ready-made. A new divergence is a new row loss and nothing else.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::fused_loss_head;
use crate::gemm::Precision;
use crate::linear::{linear, matmul};
use crate::placement::{Implementation, implementation_for};
use crate::profile::{Direction, Operator, timed};

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
    /// Not the loss, but what to call `backward` on: it has the loss's gradients. `[1]`
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
    precision: Precision,
    row_loss: impl FnMut(Tensor<2>, Range<usize>) -> ChunkLoss,
) -> HeadLoss {
    match implementation_for(&hidden) {
        Implementation::Fused => timed(Operator::LossHead, Direction::Forward, || {
            fused_loss_head::loss_head(hidden, weight, precision, row_loss)
        }),
        Implementation::Composed => loss_head_composed(hidden, weight, precision, row_loss),
    }
}

/// [`loss_head`] from Burn's operations: the other devices' implementation, and the reference of the fused one.
pub fn loss_head_composed(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    precision: Precision,
    mut row_loss: impl FnMut(Tensor<2>, Range<usize>) -> ChunkLoss,
) -> HeadLoss {
    let (hidden_values, weight_values) = (hidden.clone().inner(), weight.clone().inner());
    let mut loss_sum: Option<Tensor<1>> = None;
    let mut weight_gradient: Option<Tensor<2>> = None;
    let mut hidden_gradients = Vec::new();
    for rows in chunks(hidden_values.dims()[0], weight_values.dims()[0]) {
        let chunk = hidden_values.clone().narrow(0, rows.start, rows.len()); // [chunk, hidden_size]
        let logits = matmul(chunk.clone(), weight_values.clone().transpose(), precision); // [chunk, vocab_size]
        let loss = row_loss(logits, rows);
        loss_sum = Some(add(loss_sum, loss.loss_sum));
        let hidden_gradient = matmul(loss.logit_gradient.clone(), weight_values.clone(), precision); // [chunk, hidden_size]
        hidden_gradients.push(hidden_gradient);
        let chunk_gradient = matmul(loss.logit_gradient.transpose(), chunk, precision); // [vocab_size, hidden_size]
        weight_gradient = Some(add(weight_gradient, chunk_gradient));
    }
    let surrogate = match weight_gradient {
        Some(gradient) => (hidden * Tensor::cat(hidden_gradients, 0)).sum() + (weight * gradient).sum(),
        // Tracked like any other, so that `backward` works.
        None => (weight * 0.0).sum(),
    };
    HeadLoss { loss_sum: loss_sum.unwrap_or_else(|| Tensor::zeros([1], &hidden_values.device())), surrogate }
}

/// The sum of a value over every row, such as the loss alone, without any gradient.
///
/// # Shapes
/// As [`loss_head`]; `value` gives `[n]`, the same `n` for every chunk.
pub fn loss_head_value(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    precision: Precision,
    mut value: impl FnMut(Tensor<2>, Range<usize>) -> Tensor<1>,
) -> Option<Tensor<1>> {
    let (hidden, weight) = (hidden.inner(), weight.inner());
    chunks(hidden.dims()[0], weight.dims()[0]).fold(None, |sum, rows| {
        let logits = linear(hidden.clone().narrow(0, rows.start, rows.len()), weight.clone(), precision);
        Some(add(sum, value(logits, rows)))
    })
}

pub(crate) fn chunks(rows: usize, vocab_size: usize) -> impl Iterator<Item = Range<usize>> {
    let chunk = (LOGITS_PER_CHUNK / vocab_size).max(1);
    (0..rows).step_by(chunk).map(move |start| start..(start + chunk).min(rows))
}

fn add<const D: usize>(sum: Option<Tensor<D>>, term: Tensor<D>) -> Tensor<D> {
    match sum {
        Some(sum) => sum + term,
        None => term,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::drawn;
    use burn::tensor::Device;

    /// Three chunks, the last one short.
    const VOCAB_SIZE: usize = LOGITS_PER_CHUNK / 5;
    const ROWS: usize = 13;

    /// `Σ (logit - row)²`: as plain as a row loss can be that needs to know its rows.
    fn square(logits: Tensor<2>, rows: Range<usize>) -> ChunkLoss {
        let numbers = Tensor::<1, burn::tensor::Int>::arange(rows.start as i64..rows.end as i64, &logits.device());
        let distance = logits - numbers.float().unsqueeze_dim(1);
        ChunkLoss { loss_sum: distance.clone().square().sum(), logit_gradient: distance * 2.0 }
    }

    fn parameters() -> (Tensor<2>, Tensor<2>) {
        let parameter = |seed, rows, scale: f32| drawn(seed, [rows, 3], -scale..scale).autodiff().require_grad();
        (parameter(1, ROWS, 1.0), parameter(2, VOCAB_SIZE, 0.1))
    }

    #[test]
    fn chunks_give_the_loss_and_the_gradients_of_all_rows_at_once() {
        let (hidden, weight) = parameters();
        let mut chunks = Vec::new();
        let loss = loss_head(hidden.clone(), weight.clone(), Precision::Fp32, |logits, rows| {
            chunks.push(rows.len());
            square(logits, rows)
        });
        assert_eq!(chunks, [5, 5, 3]);
        let whole = square(hidden.clone().matmul(weight.clone().transpose()), 0..ROWS).loss_sum;
        // Relative L2: sums of up to 838,860 terms in another order.
        let close = |actual: Tensor<2>, expected: Tensor<2>| {
            let norm = |tensor: Tensor<2>| tensor.square().sum().sqrt().into_scalar::<f32>();
            let distance = norm(actual - expected.clone()) / norm(expected);
            assert!(distance < 1e-5, "{distance}");
        };
        close(loss.loss_sum.unsqueeze(), whole.clone().inner().unsqueeze());
        let (actual, expected) = (loss.surrogate.backward(), whole.backward());
        for parameter in [hidden, weight] {
            close(parameter.grad(&actual).unwrap(), parameter.grad(&expected).unwrap());
        }
    }

    #[test]
    fn composed_chunks_give_the_same_and_with_rounded_factors_nearly() {
        let (hidden, weight) = parameters();
        let results = |loss: HeadLoss| {
            let gradients = loss.surrogate.backward();
            let [hidden, weight] = [&hidden, &weight].map(|parameter| parameter.grad(&gradients).unwrap());
            [loss.loss_sum.unsqueeze(), hidden, weight]
        };
        // Without the row's number, beside which 16 bits see little of a logit.
        let square = |logits: Tensor<2>, _: Range<usize>| ChunkLoss {
            loss_sum: logits.clone().square().sum(),
            logit_gradient: logits * 2.0,
        };
        let expected = results(loss_head(hidden.clone(), weight.clone(), Precision::Fp32, square));
        for (precision, least, most) in [(Precision::Fp32, 0.0, 1e-5), (Precision::Bf16, 1e-5, 1e-2)] {
            let composed = results(loss_head_composed(hidden.clone(), weight.clone(), precision, square));
            let [loss, hidden, weight] = std::array::from_fn(|i| {
                let norm = |tensor: Tensor<2>| tensor.square().sum().sqrt().into_scalar::<f32>();
                norm(composed[i].clone() - expected[i].clone()) / norm(expected[i].clone())
            });
            // The loss is one number, in which roundings meet.
            assert!(loss < most, "{precision:?}: {loss}");
            assert!([hidden, weight].iter().all(|distance| (least..most).contains(distance)), "{hidden} {weight}");
        }
    }

    #[test]
    fn a_factor_on_the_surrogate_scales_the_gradients() {
        let gradient = |factor: f64| {
            let (hidden, weight) = (Tensor::ones([2, 3], &Device::flex()), Tensor::ones([5, 3], &Device::flex()));
            let weight: Tensor<2> = weight.autodiff().require_grad();
            let loss = loss_head(hidden.autodiff(), weight.clone(), Precision::Fp32, square);
            weight.grad(&(loss.surrogate * factor).backward()).unwrap().into_data().try_to_vec::<f32>().unwrap()
        };
        // 2 · (3 - 0) + 2 · (3 - 1) for each entry, a quarter of it.
        assert_eq!(gradient(0.25), [2.5; 15]);
    }

    #[test]
    fn without_rows_the_loss_and_the_gradient_are_zero() {
        let weight: Tensor<2> = Tensor::ones([5, 3], &Device::flex()).autodiff().require_grad();
        let hidden = Tensor::zeros([0, 3], &Device::flex()).autodiff();
        let loss = loss_head(hidden.clone(), weight.clone(), Precision::Fp32, square);
        assert_eq!(loss.loss_sum.into_scalar::<f32>(), 0.0);
        let gradient = weight.grad(&loss.surrogate.backward()).unwrap();
        assert_eq!(gradient.into_data().try_to_vec::<f32>().unwrap(), [0.0; 15]);
        assert!(
            loss_head_value(hidden, weight, Precision::Fp32, |logits, rows| square(logits, rows).loss_sum).is_none()
        );
    }
}
