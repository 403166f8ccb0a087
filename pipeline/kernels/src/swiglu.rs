//! The gated activation of the feed-forward layer.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn::tensor::activation::silu;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::flex::{last_dimension, shaped, tensor_like, unwritten, values};
use crate::level::vectorized;
use crate::placement::{Implementation, implementation_for};
use crate::profile::{Direction, Operator, timed};
use crate::simd::sigmoid;

/// Values a task handles.
const VALUES_PER_TASK: usize = 1 << 14;

/// `silu(gate) * up` (SwiGLU: Shazeer 2020, arXiv:2002.05202).
///
/// # Shapes
/// - `gate_up`: `[.., 2 * intermediate_size]`, the gates before the others
/// - output: `[.., intermediate_size]`
pub fn swiglu<const D: usize>(gate_up: Tensor<D>) -> Tensor<D> {
    match implementation_for(&gate_up) {
        Implementation::Fused => {
            Tensor::from_dispatch(<Dispatch as FusedSwiGlu>::fused_swiglu(gate_up.into_dispatch()))
        }
        Implementation::Composed => swiglu_composed(gate_up),
    }
}

/// [`swiglu`] from Burn's operations: the other devices' implementation, and the reference of the fused one.
pub fn swiglu_composed<const D: usize>(gate_up: Tensor<D>) -> Tensor<D> {
    let size = gate_up.dims()[D - 1] / 2;
    silu(gate_up.clone().narrow(D - 1, 0, size)) * gate_up.narrow(D - 1, size, size)
}

#[backend_extension(Flex, Autodiff)]
trait FusedSwiGlu: Backend {
    fn fused_swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl FusedSwiGlu for Flex {
    fn fused_swiglu(gate_up: FlexTensor) -> FlexTensor {
        timed(Operator::SwiGlu, Direction::Forward, || activate(&gate_up.to_contiguous()))
    }
}

impl<C: CheckpointStrategy> FusedSwiGlu for Autodiff<Flex, C> {
    fn fused_swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        let (gate_up, node) = gate_up.into_parts();
        let gate_up = gate_up.to_contiguous();
        let output = timed(Operator::SwiGlu, Direction::Forward, || activate(&gate_up));
        match SwiGluBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(operation) => operation.finish(gate_up, output),
            OpsKind::UnTracked(operation) => operation.finish(output),
        }
    }
}

#[derive(Debug)]
struct SwiGluBackward;

impl Backward<Flex, 1> for SwiGluBackward {
    type State = FlexTensor;

    fn backward(self, ops: Ops<FlexTensor, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let [parent] = ops.parents;
        if let Some(node) = parent {
            let gradient =
                timed(Operator::SwiGlu, Direction::Backward, || activate_backward(&ops.state, &output_gradient));
            gradients.register::<Flex>(node.id, gradient);
        }
    }
}

/// See [`swiglu`].
pub(crate) fn activate(gate_up: &FlexTensor) -> FlexTensor {
    let size = last_dimension(gate_up) / 2;
    let mut output = unwritten(values(gate_up).len() / 2);
    let rows = rows_per_task(size);
    output.par_chunks_mut(rows * size).zip(values(gate_up).par_chunks(2 * rows * size)).for_each(
        |(output, gate_up)| {
            vectorized(
                #[inline(always)]
                || {
                    for (output, gate_up) in output.chunks_exact_mut(size).zip(gate_up.chunks_exact(2 * size)) {
                        let (gates, ups) = gate_up.split_at(size);
                        for ((output, gate), up) in output.iter_mut().zip(gates).zip(ups) {
                            *output = gate * sigmoid(*gate) * up;
                        }
                    }
                },
            )
        },
    );
    let mut shape = gate_up.layout().shape().clone();
    let last = shape.num_dims() - 1;
    shape[last] = size;
    shaped(shape, output)
}

/// With `s = sigmoid(gate)`: `dgate = dy · up · s · (1 + gate · (1 - s))` and `dup = dy · gate · s`.
pub(crate) fn activate_backward(gate_up: &FlexTensor, output_gradient: &FlexTensor) -> FlexTensor {
    let size = last_dimension(output_gradient);
    let mut gradient = unwritten(values(gate_up).len());
    let task = rows_per_task(size) * size;
    let sources = values(gate_up).par_chunks(2 * task).zip(values(output_gradient).par_chunks(task));
    gradient.par_chunks_mut(2 * task).zip(sources).for_each(|(gradient, (gate_up, upstream))| {
        vectorized(
            #[inline(always)]
            || {
                let sources = gate_up.chunks_exact(2 * size).zip(upstream.chunks_exact(size));
                for (gradient, (gate_up, upstream)) in gradient.chunks_exact_mut(2 * size).zip(sources) {
                    backward_row(gradient, gate_up, upstream);
                }
            },
        )
    });
    tensor_like(gate_up, gradient)
}

#[inline(always)]
fn backward_row(gradient: &mut [f32], gate_up: &[f32], upstream: &[f32]) {
    let size = upstream.len();
    let (gates, ups) = gate_up.split_at(size);
    let (gate_gradient, up_gradient) = gradient.split_at_mut(size);
    // Slices of one length and an index: a chain of zips is not turned into vectors.
    let (gate_gradient, up_gradient) = (&mut gate_gradient[..size], &mut up_gradient[..size]);
    let (gates, ups) = (&gates[..size], &ups[..size]);
    for i in 0..size {
        let s = sigmoid(gates[i]);
        gate_gradient[i] = upstream[i] * ups[i] * s * (1.0 + gates[i] * (1.0 - s));
        up_gradient[i] = upstream[i] * gates[i] * s;
    }
}

fn rows_per_task(size: usize) -> usize {
    VALUES_PER_TASK.div_ceil(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::drawn;
    use burn::tensor::Tolerance;

    /// More values than a task has.
    const SHAPE: [usize; 3] = [3, 83, 142];

    #[test]
    fn values_are_those_of_the_definition() {
        let input = drawn(1, SHAPE, -9.0..9.0);
        let [input, output] =
            [input.clone(), swiglu(input)].map(|tensor| tensor.into_data().try_to_vec::<f32>().unwrap());
        for (row, output) in input.chunks(SHAPE[2]).zip(output.chunks(SHAPE[2] / 2)) {
            let (gates, ups) = row.split_at(SHAPE[2] / 2);
            for ((gate, up), actual) in gates.iter().zip(ups).zip(output) {
                let (gate, up) = (f64::from(*gate), f64::from(*up));
                let expected = gate / (1.0 + (-gate).exp()) * up;
                assert!((f64::from(*actual) - expected).abs() < 1e-6 * expected.abs(), "{actual} {expected}");
            }
        }
    }

    #[test]
    fn gradients_are_those_of_the_composed_activation() {
        let upstream = drawn(3, [SHAPE[0], SHAPE[1], SHAPE[2] / 2], -9.0..9.0).autodiff();
        let gradient = |swiglu: fn(Tensor<3>) -> Tensor<3>| {
            let input = drawn(1, SHAPE, -9.0..9.0).autodiff().require_grad();
            let gradients = (swiglu(input.clone()) * upstream.clone()).sum().backward();
            input.grad(&gradients).unwrap().into_data()
        };
        // A millionth of the largest, 81: about 16 roundings, and the composed backward pass makes as many.
        gradient(swiglu).assert_approx_eq::<f32>(&gradient(swiglu_composed), Tolerance::absolute(8e-5));
    }
}
