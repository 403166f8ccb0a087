//! The loss head of the CPU: logits in one buffer, gradients written where they belong, and an autodiff node that has
//! its gradients from the start.

use std::ops::Range;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Shape, Tensor};
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::flex::{matrix, shaped, unwritten, values};
use crate::gemm::{Output, Precision, multiply};
use crate::level::vectorized;
use crate::loss_head::{ChunkLoss, HeadLoss, chunks};
use crate::profile::{Direction, Operator, timed};

/// Values that a task scales.
const VALUES_PER_TASK: usize = 1 << 15;

/// See [`crate::loss_head`].
pub(crate) fn loss_head(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    precision: Precision,
    mut row_loss: impl FnMut(Tensor<2>, Range<usize>) -> ChunkLoss,
) -> HeadLoss {
    let device = hidden.device().inner();
    let [hidden_values, weight_values] = [hidden.clone(), weight.clone()].map(|tensor| primitive(tensor.inner()));
    let (hidden_matrix, weight_matrix) = (matrix(&hidden_values), matrix(&weight_values));
    let [rows, hidden_size] = hidden.dims();
    let vocab_size = weight_matrix.rows;
    let mut hidden_gradient = unwritten(rows * hidden_size);
    let mut weight_gradient =
        if rows == 0 { vec![0.0; vocab_size * hidden_size] } else { unwritten(vocab_size * hidden_size) };
    let mut loss_sum = Tensor::zeros([1], &device);
    let mut mode = Output::Replace;
    for chunk in chunks(rows, vocab_size) {
        let hidden = hidden_matrix.block(chunk.clone(), 0..hidden_size);
        let mut logits = unwritten(chunk.len() * vocab_size);
        multiply(precision, hidden, weight_matrix.transposed(), &mut logits, vocab_size, Output::Replace);
        let logits = shaped(Shape::new([chunk.len(), vocab_size]), logits);
        let loss = row_loss(Tensor::from_primitive::<Flex>(logits), chunk.clone());
        loss_sum = loss_sum + loss.loss_sum;
        let logit_gradient = primitive(loss.logit_gradient);
        let logit_gradient = matrix(&logit_gradient);
        let target = &mut hidden_gradient[chunk.start * hidden_size..chunk.end * hidden_size];
        multiply(precision, logit_gradient, weight_matrix, target, hidden_size, Output::Replace);
        multiply(precision, logit_gradient.transposed(), hidden, &mut weight_gradient, hidden_size, mode);
        mode = Output::Add;
    }
    let hidden_gradient = shaped(hidden_values.layout().shape().clone(), hidden_gradient);
    let weight_gradient = shaped(weight_values.layout().shape().clone(), weight_gradient);
    let (hidden, weight) = (hidden.into_dispatch(), weight.into_dispatch());
    let surrogate = <Dispatch as Premade>::premade(hidden, weight, hidden_gradient, weight_gradient);
    HeadLoss { loss_sum, surrogate: Tensor::from_dispatch(surrogate) }
}

fn primitive(tensor: Tensor<2>) -> FlexTensor {
    tensor.try_into_primitive::<Flex>().expect("untracked, on the flex backend").to_contiguous()
}

/// A scalar whose gradients by its two inputs are known.
#[backend_extension(Flex, Autodiff)]
trait Premade: Backend {
    fn premade(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        hidden_gradient: FlexTensor,
        weight_gradient: FlexTensor,
    ) -> FloatTensor<Self>;
}

fn scalar() -> FlexTensor {
    shaped(Shape::new([1]), vec![0.0])
}

impl Premade for Flex {
    fn premade(_: FlexTensor, _: FlexTensor, _: FlexTensor, _: FlexTensor) -> FlexTensor {
        scalar()
    }
}

impl<C: CheckpointStrategy> Premade for Autodiff<Flex, C> {
    fn premade(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        hidden_gradient: FlexTensor,
        weight_gradient: FlexTensor,
    ) -> FloatTensor<Self> {
        let nodes = [hidden.into_parts().1, weight.into_parts().1];
        match PremadeBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(operation) => operation.finish([hidden_gradient, weight_gradient], scalar()),
            OpsKind::UnTracked(operation) => operation.finish(scalar()),
        }
    }
}

#[derive(Debug)]
struct PremadeBackward;

impl Backward<Flex, 2> for PremadeBackward {
    type State = [FlexTensor; 2];

    fn backward(self, ops: Ops<[FlexTensor; 2], 2>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let factor = values(&gradients.consume::<Flex>(&ops.node).to_contiguous())[0];
        for (node, mut gradient) in ops.parents.into_iter().zip(ops.state) {
            if let Some(node) = node {
                timed(Operator::LossHead, Direction::Backward, || {
                    let tasks = gradient.storage_mut::<f32>().par_chunks_mut(VALUES_PER_TASK);
                    tasks.for_each(|values| {
                        vectorized(
                            #[inline(always)]
                            || values.iter_mut().for_each(|value| *value *= factor),
                        )
                    });
                });
                gradients.register::<Flex>(node.id, gradient);
            }
        }
    }
}
