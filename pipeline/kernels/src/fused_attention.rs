//! Rotary attention of the CPU: scores live in a block of queries at a time, a segment's keys alone are read, and the
//! backward pass makes them again from the saved logarithm of their sum (FlashAttention: Dao et al. 2022,
//! arXiv:2205.14135).

use std::borrow::Cow;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::attention::{HeadLayout, HeadNorms};
use crate::attention_backward::AttendBackward;
use crate::attention_forward::Attend;
use crate::attention_heads::{Heads, NormWeights};
use crate::flex::{shaped, tensor_like, unwritten, values};
use crate::gemm::{Precision, with_kernel};
use crate::kept::Kept;
use crate::profile::{Direction, Operator, timed};

/// Reach and rotary angles of a batch's queries, on the host.
#[derive(Debug)]
pub(crate) struct HostPlan {
    /// Tokens in a row.
    pub(crate) sequence_length: usize,
    /// Keys before its own that a query sees: `[rows * sequence_length]`. The first that it sees comes never before the
    /// first that an earlier one saw.
    pub(crate) reach: Vec<u32>,
    /// `[rows * sequence_length, head_dim / 2]`.
    pub(crate) cosines: Vec<f32>,
    /// As `cosines`.
    pub(crate) sines: Vec<f32>,
}

/// What the operator needs besides its tensors.
#[derive(Clone, Debug)]
struct Settings {
    layout: HeadLayout,
    plan: Arc<HostPlan>,
    epsilon: f32,
    precision: Precision,
}

/// See [`crate::rotary_attention`].
pub(crate) fn fused(
    projected: Tensor<3>,
    norms: Option<HeadNorms>,
    layout: HeadLayout,
    plan: Arc<HostPlan>,
    precision: Precision,
) -> Tensor<3> {
    let projected = projected.into_dispatch();
    let epsilon = norms.as_ref().map_or(0.0, |norms| norms.epsilon);
    let settings = Settings { layout, plan, epsilon, precision };
    Tensor::from_dispatch(match norms {
        Some(HeadNorms { query_weight, key_weight, .. }) => {
            let (query_weight, key_weight) = (query_weight.into_dispatch(), key_weight.into_dispatch());
            <Dispatch as FusedAttention>::fused_norm_attention(projected, query_weight, key_weight, settings)
        }
        None => <Dispatch as FusedAttention>::fused_attention(projected, settings),
    })
}

#[backend_extension(Flex, Autodiff)]
trait FusedAttention: Backend {
    fn fused_attention(projected: FloatTensor<Self>, settings: Settings) -> FloatTensor<Self>;

    fn fused_norm_attention(
        projected: FloatTensor<Self>,
        query_weight: FloatTensor<Self>,
        key_weight: FloatTensor<Self>,
        settings: Settings,
    ) -> FloatTensor<Self>;
}

impl FusedAttention for Flex {
    fn fused_attention(projected: FlexTensor, settings: Settings) -> FlexTensor {
        forward(&Inputs::new(projected, None, settings)).0
    }

    fn fused_norm_attention(
        projected: FlexTensor,
        query_weight: FlexTensor,
        key_weight: FlexTensor,
        settings: Settings,
    ) -> FlexTensor {
        forward(&Inputs::new(projected, Some([query_weight, key_weight]), settings)).0
    }
}

impl<C: CheckpointStrategy> FusedAttention for Autodiff<Flex, C> {
    fn fused_attention(projected: FloatTensor<Self>, settings: Settings) -> FloatTensor<Self> {
        let (projected, node) = projected.into_parts();
        let inputs = Inputs::new(projected, None, settings);
        let (output, log_sums) = forward(&inputs);
        match AttentionBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(operation) => operation.finish(Saved::new(inputs, &output, log_sums), output),
            OpsKind::UnTracked(operation) => operation.finish(output),
        }
    }

    fn fused_norm_attention(
        projected: FloatTensor<Self>,
        query_weight: FloatTensor<Self>,
        key_weight: FloatTensor<Self>,
        settings: Settings,
    ) -> FloatTensor<Self> {
        let (projected, node) = projected.into_parts();
        let (query_weight, query_node) = query_weight.into_parts();
        let (key_weight, key_node) = key_weight.into_parts();
        let inputs = Inputs::new(projected, Some([query_weight, key_weight]), settings);
        let (output, log_sums) = forward(&inputs);
        match AttentionBackward.prepare::<C>([node, query_node, key_node]).compute_bound().stateful() {
            OpsKind::Tracked(operation) => operation.finish(Saved::new(inputs, &output, log_sums), output),
            OpsKind::UnTracked(operation) => operation.finish(output),
        }
    }
}

#[derive(Clone, Debug)]
struct Inputs {
    projected: Kept,
    norm_weights: Option<[FlexTensor; 2]>,
    settings: Settings,
}

impl Inputs {
    fn new(projected: FlexTensor, norm_weights: Option<[FlexTensor; 2]>, settings: Settings) -> Self {
        let norm_weights = norm_weights.map(|weights| weights.map(|weight| weight.to_contiguous()));
        Self { projected: Kept::new(&projected), norm_weights, settings }
    }

    /// Values of a row: projected, then output.
    fn row_sizes(&self) -> (usize, usize) {
        let Settings { layout, plan, .. } = &self.settings;
        let output = plan.sequence_length * layout.num_attention_heads * layout.head_dim;
        (plan.sequence_length * self.projected.last_dimension(), output)
    }

    /// One task a row: each writes its own part of every output, and the sums have one order whatever the threads.
    fn rows(&self) -> impl IndexedParallelIterator<Item = Heads<'_>> {
        let Settings { layout, plan, epsilon, .. } = &self.settings;
        let angles = plan.sequence_length * layout.head_dim / 2;
        let norms = self.norm_weights.as_ref().map(|[query, key]| NormWeights {
            query: values(query),
            key: values(key),
            epsilon: *epsilon,
        });
        let tables = plan.cosines.par_chunks(angles).zip(plan.sines.par_chunks(angles));
        let rows = tables.zip(plan.reach.par_chunks(plan.sequence_length)).enumerate();
        rows.map(move |(row, ((cosines, sines), reach))| Heads {
            projected: row_of(&self.projected, row, self.row_sizes().0),
            cosines,
            sines,
            reach,
            layout: *layout,
            norms,
        })
    }
}

/// The values of one of a batch's rows.
fn row_of(kept: &Kept, row: usize, size: usize) -> Cow<'_, [f32]> {
    kept.part(row * size..(row + 1) * size)
}

/// The output, and the logarithm of the sum of the scores' exponentials: `[rows, num_attention_heads, sequence_length]`.
fn forward(inputs: &Inputs) -> (FlexTensor, Arc<Vec<f32>>) {
    timed(Operator::Attention, Direction::Forward, || attend(inputs))
}

fn attend(inputs: &Inputs) -> (FlexTensor, Arc<Vec<f32>>) {
    let Settings { layout, plan, precision, .. } = &inputs.settings;
    let (_, output_row) = inputs.row_sizes();
    let rows = plan.reach.len() / plan.sequence_length;
    let sums_row = layout.num_attention_heads * plan.sequence_length;
    let (mut output, mut log_sums) = (unwritten(rows * output_row), unwritten(rows * sums_row));
    let targets = output.par_chunks_mut(output_row).zip(log_sums.par_chunks_mut(sums_row));
    targets.zip(inputs.rows()).for_each(|((output, log_sums), heads)| {
        with_kernel(*precision, Attend { heads, output, log_sums });
    });
    let mut shape = inputs.projected.shape().clone();
    let last = shape.num_dims() - 1;
    shape[last] = layout.num_attention_heads * layout.head_dim;
    (shaped(shape, output), Arc::new(log_sums))
}

#[derive(Debug)]
struct AttentionBackward;

#[derive(Clone, Debug)]
struct Saved {
    inputs: Inputs,
    output: Kept,
    log_sums: Arc<Vec<f32>>,
}

impl Saved {
    fn new(inputs: Inputs, output: &FlexTensor, log_sums: Arc<Vec<f32>>) -> Self {
        let precision = inputs.settings.precision;
        timed(Operator::Attention, Direction::Forward, || {
            let inputs = Inputs { projected: inputs.projected.rounded(precision), ..inputs };
            Self { inputs, output: Kept::new(output).rounded(precision), log_sums }
        })
    }
}

impl<const N: usize> Backward<Flex, N> for AttentionBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, N>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let input_gradients =
            timed(Operator::Attention, Direction::Backward, || backward(&ops.state, &output_gradient));
        for (node, gradient) in ops.parents.into_iter().zip(input_gradients) {
            if let Some(node) = node {
                gradients.register::<Flex>(node.id, gradient);
            }
        }
    }
}

/// The gradients of what was projected and of the norms' weights.
fn backward(saved: &Saved, output_gradient: &FlexTensor) -> Vec<FlexTensor> {
    let inputs = &saved.inputs;
    let Settings { layout, plan, precision, .. } = &inputs.settings;
    let (projected_row, output_row) = inputs.row_sizes();
    let mut gradient = unwritten(inputs.projected.len());
    let sums_row = layout.num_attention_heads * plan.sequence_length;
    let outputs = values(output_gradient).par_chunks(output_row).zip(saved.log_sums.par_chunks(sums_row));
    let rows = gradient.par_chunks_mut(projected_row).zip(outputs).zip(inputs.rows()).enumerate();
    let norm_gradients: Vec<[Vec<f32>; 2]> = rows
        .map(|(row, ((gradient, (output_gradient, log_sums)), heads))| {
            let output = &row_of(&saved.output, row, output_row);
            with_kernel(*precision, AttendBackward { heads, output, output_gradient, log_sums, gradient })
        })
        .collect();
    let mut gradients = vec![shaped(inputs.projected.shape().clone(), gradient)];
    for (index, weight) in inputs.norm_weights.iter().flatten().enumerate() {
        let mut sum = vec![0.0; layout.head_dim];
        for row in &norm_gradients {
            sum.iter_mut().zip(&row[index]).for_each(|(sum, value)| *sum += value);
        }
        gradients.push(tensor_like(weight, sum));
    }
    gradients
}
