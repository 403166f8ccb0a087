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

use crate::flex::{tensor_like, values};
use crate::placement::{Implementation, implementation_for};
use crate::simd::{sigmoid, vectorized};

/// Values a task handles.
const VALUES_PER_TASK: usize = 1 << 14;

/// `silu(gate) * up` (SwiGLU: Shazeer 2020, arXiv:2002.05202).
///
/// # Shapes
/// `gate`, `up` and the output are alike.
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    match implementation_for(&gate) {
        Implementation::Fused => {
            let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
            Tensor::from_dispatch(<Dispatch as FusedSwiGlu>::fused_swiglu(gate, up))
        }
        Implementation::Composed => swiglu_composed(gate, up),
    }
}

/// [`swiglu`] from Burn's operations: the other devices' implementation, and the reference of the fused one.
pub fn swiglu_composed<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    silu(gate) * up
}

#[backend_extension(Flex, Autodiff)]
trait FusedSwiGlu: Backend {
    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl FusedSwiGlu for Flex {
    fn fused_swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        forward(&gate.to_contiguous(), &up.to_contiguous())
    }
}

impl<C: CheckpointStrategy> FusedSwiGlu for Autodiff<Flex, C> {
    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let (gate, gate_node) = gate.into_parts();
        let (up, up_node) = up.into_parts();
        let (gate, up) = (gate.to_contiguous(), up.to_contiguous());
        let output = forward(&gate, &up);
        match SwiGluBackward.prepare::<C>([gate_node, up_node]).compute_bound().stateful() {
            OpsKind::Tracked(operation) => operation.finish(Saved { gate, up }, output),
            OpsKind::UnTracked(operation) => operation.finish(output),
        }
    }
}

#[derive(Debug)]
struct SwiGluBackward;

#[derive(Clone, Debug)]
struct Saved {
    gate: FlexTensor,
    up: FlexTensor,
}

impl Backward<Flex, 2> for SwiGluBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 2>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let (gate_gradient, up_gradient) = backward(&ops.state, &output_gradient);
        for (node, gradient) in ops.parents.into_iter().zip([gate_gradient, up_gradient]) {
            if let Some(node) = node {
                gradients.register::<Flex>(node.id, gradient);
            }
        }
    }
}

fn forward(gate: &FlexTensor, up: &FlexTensor) -> FlexTensor {
    let (gates, ups) = (values(gate), values(up));
    let mut output = vec![0.0; gates.len()];
    let tasks = output.par_chunks_mut(VALUES_PER_TASK).zip(gates.par_chunks(VALUES_PER_TASK));
    tasks.zip(ups.par_chunks(VALUES_PER_TASK)).for_each(|((output, gates), ups)| {
        vectorized(
            #[inline(always)]
            || {
                for ((output, gate), up) in output.iter_mut().zip(gates).zip(ups) {
                    *output = gate * sigmoid(*gate) * up;
                }
            },
        )
    });
    tensor_like(gate, output)
}

/// With `s = sigmoid(gate)`: `dgate = dy · up · s · (1 + gate · (1 - s))` and `dup = dy · gate · s`.
fn backward(saved: &Saved, output_gradient: &FlexTensor) -> (FlexTensor, FlexTensor) {
    let (gates, ups, gradients) = (values(&saved.gate), values(&saved.up), values(output_gradient));
    let (mut gate_gradient, mut up_gradient) = (vec![0.0; gates.len()], vec![0.0; gates.len()]);
    let targets = gate_gradient.par_chunks_mut(VALUES_PER_TASK).zip(up_gradient.par_chunks_mut(VALUES_PER_TASK));
    let sources = gates.par_chunks(VALUES_PER_TASK).zip(ups.par_chunks(VALUES_PER_TASK));
    let sources = sources.zip(gradients.par_chunks(VALUES_PER_TASK));
    targets.zip(sources).for_each(|((gate_gradient, up_gradient), ((gates, ups), gradients))| {
        vectorized(
            #[inline(always)]
            || {
                let sources = gates.iter().zip(ups).zip(gradients);
                let targets = gate_gradient.iter_mut().zip(up_gradient);
                for ((gate_gradient, up_gradient), ((gate, up), gradient)) in targets.zip(sources) {
                    let s = sigmoid(*gate);
                    *gate_gradient = gradient * up * s * (1.0 + gate * (1.0 - s));
                    *up_gradient = gradient * gate * s;
                }
            },
        )
    });
    (tensor_like(&saved.gate, gate_gradient), tensor_like(&saved.up, up_gradient))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::drawn;
    use burn::tensor::Tolerance;

    /// More values than a task has.
    const SHAPE: [usize; 3] = [3, 83, 71];

    fn random(seed: u64) -> Tensor<3> {
        drawn(seed, SHAPE, -9.0..9.0)
    }

    #[test]
    fn values_are_those_of_the_definition() {
        let (gate, up) = (random(1), random(2));
        let output: Vec<f32> = swiglu(gate.clone(), up.clone()).into_data().try_to_vec().unwrap();
        let [gate, up] = [gate, up].map(|tensor| tensor.into_data().try_to_vec::<f32>().unwrap());
        for ((gate, up), actual) in gate.iter().zip(&up).zip(&output) {
            let (gate, up) = (f64::from(*gate), f64::from(*up));
            let expected = gate / (1.0 + (-gate).exp()) * up;
            assert!((f64::from(*actual) - expected).abs() < 1e-6 * expected.abs(), "{actual} {expected}");
        }
    }

    #[test]
    fn gradients_are_those_of_the_composed_activation() {
        let (gate, up, upstream) = (random(1), random(2), random(3).autodiff());
        let gradients = |swiglu: fn(Tensor<3>, Tensor<3>) -> Tensor<3>| {
            let (gate, up) = (gate.clone().autodiff().require_grad(), up.clone().autodiff().require_grad());
            let gradients = (swiglu(gate.clone(), up.clone()) * upstream.clone()).sum().backward();
            [gate, up].map(|input| input.grad(&gradients).unwrap().into_data())
        };
        for (fused, composed) in gradients(swiglu).into_iter().zip(gradients(swiglu_composed)) {
            // A millionth of the largest, 81: about 16 roundings, and the composed backward pass makes as many.
            fused.assert_approx_eq::<f32>(&composed, Tolerance::absolute(8e-5));
        }
    }
}
