//! Rows of the embedding.

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Int, Shape, Tensor, TensorData};
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::flex::{last_dimension, shaped, unwritten, values};
use crate::placement::{Implementation, implementation_for};
use crate::profile::{Direction, Operator, timed};

/// Rows that a task handles.
const ROWS_PER_TASK: usize = 256;

/// The rows of `weight` that `ids` name.
///
/// # Shapes
/// - `weight`: `[vocab_size, hidden_size]`
/// - `ids`: `[rows * tokens]`
/// - output: `[rows, tokens, hidden_size]`
///
/// # Panics
/// If an id is not below `vocab_size`, or `ids` is not whole rows.
pub fn embedding(weight: Tensor<2>, ids: &[u32], tokens: usize) -> Tensor<3> {
    let [vocab_size, hidden_size] = weight.dims();
    assert!(ids.iter().all(|id| (*id as usize) < vocab_size), "ids of the vocabulary");
    match implementation_for(&weight) {
        Implementation::Fused => {
            let (weight, rows) = (weight.into_dispatch(), Arc::new(ids.to_vec()));
            let rows = timed(Operator::Embedding, Direction::Forward, || {
                <Dispatch as FusedEmbedding>::fused_embedding(weight, rows)
            });
            Tensor::<2>::from_dispatch(rows).reshape([ids.len() / tokens, tokens, hidden_size])
        }
        Implementation::Composed => embedding_composed(weight, ids, tokens),
    }
}

/// [`embedding`] from Burn's operations: the other devices' implementation, and the reference of the fused one.
pub fn embedding_composed(weight: Tensor<2>, ids: &[u32], tokens: usize) -> Tensor<3> {
    let shape = [ids.len() / tokens, tokens];
    let ids: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &weight.device().inner());
    burn::tensor::module::embedding(weight, ids)
}

#[backend_extension(Flex, Autodiff)]
trait FusedEmbedding: Backend {
    fn fused_embedding(weight: FloatTensor<Self>, ids: Arc<Vec<u32>>) -> FloatTensor<Self>;
}

impl FusedEmbedding for Flex {
    fn fused_embedding(weight: FlexTensor, ids: Arc<Vec<u32>>) -> FlexTensor {
        forward(&weight.to_contiguous(), &ids)
    }
}

impl<C: CheckpointStrategy> FusedEmbedding for Autodiff<Flex, C> {
    fn fused_embedding(weight: FloatTensor<Self>, ids: Arc<Vec<u32>>) -> FloatTensor<Self> {
        let (weight, node) = weight.into_parts();
        let weight = weight.to_contiguous();
        let output = forward(&weight, &ids);
        match EmbeddingBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(operation) => operation.finish((weight.layout().shape().clone(), ids), output),
            OpsKind::UnTracked(operation) => operation.finish(output),
        }
    }
}

#[derive(Debug)]
struct EmbeddingBackward;

impl Backward<Flex, 1> for EmbeddingBackward {
    /// Shape of the weight, and the ids.
    type State = (Shape, Arc<Vec<u32>>);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let ([parent], (shape, ids)) = (ops.parents, ops.state);
        if let Some(node) = parent {
            timed(Operator::Embedding, Direction::Backward, || {
                gradients.register::<Flex>(node.id, backward(shape, &ids, &output_gradient));
            });
        }
    }
}

fn forward(weight: &FlexTensor, ids: &[u32]) -> FlexTensor {
    let (size, weights) = (last_dimension(weight), values(weight));
    let mut output = unwritten(ids.len() * size);
    output.par_chunks_mut(ROWS_PER_TASK * size).zip(ids.par_chunks(ROWS_PER_TASK)).for_each(|(output, ids)| {
        for (output, id) in output.chunks_exact_mut(size).zip(ids) {
            output.copy_from_slice(&weights[*id as usize * size..][..size]);
        }
    });
    shaped(Shape::new([ids.len(), size]), output)
}

/// Each task has rows of the embedding of its own, so that a row's gradients are added in the order of the tokens.
fn backward(shape: Shape, ids: &[u32], output_gradient: &FlexTensor) -> FlexTensor {
    let (size, upstream) = (shape[1], values(output_gradient));
    let mut gradient = unwritten(shape[0] * size);
    gradient.par_chunks_mut(ROWS_PER_TASK * size).enumerate().for_each(|(task, gradient)| {
        gradient.fill(0.0);
        let first = task * ROWS_PER_TASK;
        for (id, upstream) in ids.iter().zip(upstream.chunks_exact(size)) {
            let Some(row) = (*id as usize).checked_sub(first).filter(|row| row * size < gradient.len()) else {
                continue;
            };
            gradient[row * size..][..size].iter_mut().zip(upstream).for_each(|(sum, value)| *sum += value);
        }
    });
    shaped(shape, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::drawn;

    const VOCAB_SIZE: usize = ROWS_PER_TASK + 7;

    #[test]
    fn rows_and_their_gradients_are_those_of_the_composed_embedding() {
        // Repeated ids, the first row, the last one, and both sides of a task's end.
        let ids = [5, 0, 262, 255, 256, 5, 5, 257, 3, 256];
        let run = |embedding: fn(Tensor<2>, &[u32], usize) -> Tensor<3>| {
            let weight = drawn(1, [VOCAB_SIZE, 11], -1.0..1.0).autodiff().require_grad();
            let output = embedding(weight.clone(), &ids, 5);
            assert_eq!(output.dims(), [2, 5, 11]);
            let gradients = (output.clone() * drawn(2, [2, 5, 11], -1.0..1.0).autodiff()).sum().backward();
            (output.into_data(), weight.grad(&gradients).unwrap().into_data())
        };
        assert_eq!(run(embedding), run(embedding_composed));
    }
}
