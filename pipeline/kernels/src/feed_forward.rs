//! The second half of a feed-forward layer: activation, projection and residual connection in one operator, so that the
//! activation's output, the largest tensor but one of a block, need not be kept for the backward pass.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;

use crate::flex::matrix;
use crate::fused_linear::Layers;
use crate::gemm::Precision;
use crate::kept::Kept;
use crate::linear::linear_composed;
use crate::placement::{Implementation, implementation_for};
use crate::profile::{Direction, Operator, timed};
use crate::swiglu::{activate, activate_backward, swiglu_composed};

/// `residual + swiglu(gate_up) · weightᵀ`, see [`swiglu_composed`](crate::swiglu_composed).
///
/// # Shapes
/// - `gate_up`: `[.., 2 * intermediate_size]`
/// - `weight`: `[hidden_size, intermediate_size]`
/// - `residual` and output: `[.., hidden_size]`
pub fn swiglu_linear_add<const D: usize>(
    residual: Tensor<D>,
    gate_up: Tensor<D>,
    weight: Tensor<2>,
    precision: Precision,
) -> Tensor<D> {
    match implementation_for(&gate_up) {
        Implementation::Fused => {
            let (residual, gate_up, weight) =
                (residual.into_dispatch(), gate_up.into_dispatch(), weight.into_dispatch());
            let output = <Dispatch as FusedFeedForward>::fused_feed_forward(residual, gate_up, weight, precision);
            Tensor::from_dispatch(output)
        }
        Implementation::Composed => swiglu_linear_add_composed(residual, gate_up, weight, precision),
    }
}

/// [`swiglu_linear_add`] from Burn's operations: the other devices' implementation, and the reference of the fused one.
pub fn swiglu_linear_add_composed<const D: usize>(
    residual: Tensor<D>,
    gate_up: Tensor<D>,
    weight: Tensor<2>,
    precision: Precision,
) -> Tensor<D> {
    residual + linear_composed(swiglu_composed(gate_up), weight, precision)
}

#[backend_extension(Flex, Autodiff)]
trait FusedFeedForward: Backend {
    fn fused_feed_forward(
        residual: FloatTensor<Self>,
        gate_up: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

impl FusedFeedForward for Flex {
    fn fused_feed_forward(
        residual: FlexTensor,
        gate_up: FlexTensor,
        weight: FlexTensor,
        precision: Precision,
    ) -> FlexTensor {
        Saved::new(&gate_up, weight, precision).layers().forward(Some(residual))
    }
}

impl<C: CheckpointStrategy> FusedFeedForward for Autodiff<Flex, C> {
    fn fused_feed_forward(
        residual: FloatTensor<Self>,
        gate_up: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (residual, residual_node) = residual.into_parts();
        let (gate_up, gate_up_node) = gate_up.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let saved = Saved::new(&gate_up, weight, precision);
        let output = saved.layers().forward(Some(residual));
        let nodes = [gate_up_node, weight_node, residual_node];
        match FeedForwardBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(operation) => operation.finish(saved.rounded(), output),
            OpsKind::UnTracked(operation) => operation.finish(output),
        }
    }
}

#[derive(Clone, Debug)]
struct Saved {
    gate_up: Kept,
    weight: FlexTensor,
    precision: Precision,
}

impl Saved {
    fn new(gate_up: &FlexTensor, weight: FlexTensor, precision: Precision) -> Self {
        Self { gate_up: Kept::new(gate_up), weight, precision }
    }

    /// What the backward pass starts from.
    fn rounded(self) -> Self {
        let gate_up = timed(Operator::SwiGlu, Direction::Forward, || self.gate_up.rounded(self.precision));
        Self { gate_up, ..self }
    }

    /// The projection, with the activation computed for it.
    fn layers(&self) -> Layers {
        let activated = timed(Operator::SwiGlu, Direction::Forward, || activate(&self.gate_up));
        Layers::new(activated, [self.weight.clone()], self.precision)
    }
}

#[derive(Debug)]
struct FeedForwardBackward;

impl Backward<Flex, 3> for FeedForwardBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 3>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let upstream = matrix(&output_gradient);
        let layers = ops.state.layers();
        let [gate_up, weight, residual] = ops.parents;
        if let Some(node) = weight {
            let work = || layers.weight_gradient(&ops.state.weight, 0, upstream);
            gradients.register::<Flex>(node.id, timed(Operator::Linear, Direction::Backward, work));
        }
        if let Some(node) = gate_up {
            let activated = timed(Operator::Linear, Direction::Backward, || layers.input_gradient(upstream));
            let work = || activate_backward(&ops.state.gate_up, &activated);
            gradients.register::<Flex>(node.id, timed(Operator::SwiGlu, Direction::Backward, work));
        }
        if let Some(node) = residual {
            gradients.register::<Flex>(node.id, output_gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::drawn;
    use burn::tensor::{TensorData, Tolerance};

    /// Output and the gradients of weight, residual and gates: fused at a precision, or composed.
    fn results(precision: Option<Precision>) -> Vec<TensorData> {
        let [residual, gate_up] =
            [(1, 19), (2, 54)].map(|(seed, width)| drawn(seed, [3, 37, width], -2.0..2.0).autodiff().require_grad());
        let weight = drawn(3, [19, 27], -1.0..1.0).autodiff().require_grad();
        let output: Tensor<3> = match precision {
            Some(precision) => swiglu_linear_add(residual.clone(), gate_up.clone(), weight.clone(), precision),
            None => swiglu_linear_add_composed(residual.clone(), gate_up.clone(), weight.clone(), Precision::Fp32),
        };
        let upstream = drawn(4, [3, 37, 19], -1.0..1.0).autodiff();
        let gradients = (output.clone() * upstream).sum().backward();
        let inputs = [residual, gate_up].map(|tensor| tensor.grad(&gradients).unwrap().into_data());
        [vec![output.into_data(), weight.grad(&gradients).unwrap().into_data()], inputs.to_vec()].concat()
    }

    #[test]
    fn values_and_gradients_are_those_of_the_composed_layer() {
        for (fused, composed) in results(Some(Precision::Fp32)).iter().zip(results(None)) {
            // Sums of up to 111 products of values of up to about 8, in another order.
            fused.assert_approx_eq::<f32>(&composed, Tolerance::absolute(1e-4));
        }
    }

    #[test]
    fn rounded_inputs_stay_within_their_precision() {
        let results = results(Some(Precision::Bf16)).into_iter().zip(results(None));
        let distances: Vec<f64> = results
            .map(|(fused, composed)| {
                let [fused, composed] = [fused, composed].map(|data| data.try_to_vec::<f32>().unwrap());
                let norm = |values: Vec<f32>| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                norm(fused.iter().zip(&composed).map(|(a, b)| a - b).collect()) / norm(composed)
            })
            .collect();
        let [output, weight, residual, gate_up] = distances[..] else { unreachable!("four results") };
        assert_eq!(residual, 0.0);
        // The gates have 8 bits, what is made of them and the weight too: about 2⁻⁹ for each, at random.
        assert!([output, weight, gate_up].iter().all(|distance| (1e-4..6e-3).contains(distance)), "{distances:?}");
    }
}
