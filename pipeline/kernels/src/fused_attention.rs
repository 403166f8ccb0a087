//! Rotary attention of the CPU: a query's scores live in a small buffer, its segment alone is read, and the backward pass
//! makes them again from the saved logarithm of their sum (FlashAttention: Dao et al. 2022, arXiv:2205.14135).

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Bytes, DType, Shape, Tensor};
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

use crate::attention_rows::{RowGradients, RowInputs, attend, attend_backward};
use crate::flex::{tensor_like, values};
use crate::simd::vectorized;

/// Positions and rotary angles of a batch, on the host.
#[derive(Debug)]
pub(crate) struct HostPlan {
    /// `[rows * sequence_length]`.
    pub(crate) positions: Vec<u32>,
    /// `[rows * sequence_length, head_dim / 2]`.
    pub(crate) cosines: Vec<f32>,
    /// As `cosines`.
    pub(crate) sines: Vec<f32>,
}

/// See [`crate::rotary_attention`].
pub(crate) fn fused(queries: Tensor<4>, keys: Tensor<4>, values: Tensor<4>, plan: Arc<HostPlan>) -> Tensor<3> {
    let [queries, keys, values] = [queries, keys, values].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as FusedAttention>::fused_attention(queries, keys, values, plan))
}

#[backend_extension(Flex, Autodiff)]
trait FusedAttention: Backend {
    fn fused_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        plan: Arc<HostPlan>,
    ) -> FloatTensor<Self>;
}

impl FusedAttention for Flex {
    fn fused_attention(queries: FlexTensor, keys: FlexTensor, values: FlexTensor, plan: Arc<HostPlan>) -> FlexTensor {
        let [queries, keys, values] = [queries, keys, values].map(|tensor| tensor.to_contiguous());
        forward(&queries, &keys, &values, &plan).0
    }
}

impl<C: CheckpointStrategy> FusedAttention for Autodiff<Flex, C> {
    fn fused_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        plan: Arc<HostPlan>,
    ) -> FloatTensor<Self> {
        let (queries, query_node) = queries.into_parts();
        let (keys, key_node) = keys.into_parts();
        let (values, value_node) = values.into_parts();
        let [queries, keys, values] = [queries, keys, values].map(|tensor| tensor.to_contiguous());
        let (output, log_sums) = forward(&queries, &keys, &values, &plan);
        match AttentionBackward.prepare::<C>([query_node, key_node, value_node]).compute_bound().stateful() {
            OpsKind::Tracked(operation) => {
                let saved = Saved { queries, keys, values, output: output.clone(), log_sums, plan };
                operation.finish(saved, output)
            }
            OpsKind::UnTracked(operation) => operation.finish(output),
        }
    }
}

#[derive(Debug)]
struct AttentionBackward;

#[derive(Clone, Debug)]
struct Saved {
    queries: FlexTensor,
    keys: FlexTensor,
    values: FlexTensor,
    output: FlexTensor,
    /// `[rows, num_attention_heads, sequence_length]`: logarithm of the sum of the scores' exponentials.
    log_sums: Arc<Vec<f32>>,
    plan: Arc<HostPlan>,
}

impl Backward<Flex, 3> for AttentionBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 3>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let input_gradients = backward(&ops.state, &output_gradient);
        for (node, gradient) in ops.parents.into_iter().zip(input_gradients) {
            if let Some(node) = node {
                gradients.register::<Flex>(node.id, gradient);
            }
        }
    }
}

/// `[rows, sequence_length, heads, head_dim]` of a tensor.
fn dimensions(tensor: &FlexTensor) -> [usize; 4] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1], shape[2], shape[3]]
}

/// One task a row: each writes its own part of every output, and the sums have one order whatever the threads.
fn inputs<'a>(
    plan: &'a HostPlan,
    [queries, keys, values_]: [&'a FlexTensor; 3],
) -> impl IndexedParallelIterator<Item = RowInputs<'a>> {
    let [_, sequence_length, heads, head_dim] = dimensions(queries);
    let [_, _, key_heads, _] = dimensions(keys);
    let (query_row, key_row) = (sequence_length * heads * head_dim, sequence_length * key_heads * head_dim);
    let angles = sequence_length * head_dim / 2;
    let heads = values(queries).par_chunks(query_row).zip(values(keys).par_chunks(key_row));
    let tables = plan.cosines.par_chunks(angles).zip(plan.sines.par_chunks(angles));
    let rows = heads.zip(values(values_).par_chunks(key_row)).zip(tables);
    rows.zip(plan.positions.par_chunks(sequence_length)).map(
        move |((((queries, keys), values), (cosines, sines)), positions)| RowInputs {
            queries,
            keys,
            values,
            cosines,
            sines,
            positions,
            key_heads,
            head_dim,
        },
    )
}

fn forward(
    queries: &FlexTensor,
    keys: &FlexTensor,
    values: &FlexTensor,
    plan: &HostPlan,
) -> (FlexTensor, Arc<Vec<f32>>) {
    let [rows, sequence_length, heads, head_dim] = dimensions(queries);
    let mut output = vec![0.0; rows * sequence_length * heads * head_dim];
    let mut log_sums = vec![0.0; rows * heads * sequence_length];
    let outputs = output.par_chunks_mut(sequence_length * heads * head_dim);
    let outputs = outputs.zip(log_sums.par_chunks_mut(heads * sequence_length));
    outputs.zip(inputs(plan, [queries, keys, values])).for_each(|((output, log_sums), row)| {
        vectorized(
            #[inline(always)]
            || attend(&row, output, log_sums),
        )
    });
    let layout = Layout::contiguous(Shape::from(vec![rows, sequence_length, heads * head_dim]));
    (FlexTensor::new(Bytes::from_elems(output), layout, DType::F32), Arc::new(log_sums))
}

/// Gradients of queries, keys and values.
fn backward(saved: &Saved, output_gradient: &FlexTensor) -> [FlexTensor; 3] {
    let [_, sequence_length, heads, head_dim] = dimensions(&saved.queries);
    let [_, _, key_heads, _] = dimensions(&saved.keys);
    let zeros = |tensor: &FlexTensor| vec![0.0; values(tensor).len()];
    let mut gradients = [zeros(&saved.queries), zeros(&saved.keys), zeros(&saved.values)];
    let [query_gradient, key_gradient, value_gradient] = &mut gradients;
    let (query_row, key_row) = (sequence_length * heads * head_dim, sequence_length * key_heads * head_dim);
    let targets = query_gradient.par_chunks_mut(query_row).zip(key_gradient.par_chunks_mut(key_row));
    let targets = targets.zip(value_gradient.par_chunks_mut(key_row));
    let outputs = values(&saved.output).par_chunks(query_row).zip(values(output_gradient).par_chunks(query_row));
    let outputs = outputs.zip(saved.log_sums.par_chunks(heads * sequence_length));
    let rows = inputs(&saved.plan, [&saved.queries, &saved.keys, &saved.values]);
    targets.zip(outputs).zip(rows).for_each(|((targets, ((output, output_gradient), log_sums)), row)| {
        let ((queries, keys), values) = targets;
        let gradients = RowGradients { queries, keys, values };
        vectorized(
            #[inline(always)]
            || attend_backward(&row, output, output_gradient, log_sums, gradients),
        )
    });
    let [query_gradient, key_gradient, value_gradient] = gradients;
    [
        tensor_like(&saved.queries, query_gradient),
        tensor_like(&saved.keys, key_gradient),
        tensor_like(&saved.values, value_gradient),
    ]
}
