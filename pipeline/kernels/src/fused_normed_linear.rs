//! Layers behind a norm, as one operator of the CPU: the backward pass makes the norm's output again from its input, which
//! the stream between the blocks keeps alive anyway.

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
use crate::profile::{Direction, Operator, timed};
use crate::rms_norm;

/// See [`crate::normed_linears`].
pub(crate) fn normed_linears<const D: usize>(
    input: Tensor<D>,
    norm_weight: Tensor<1>,
    epsilon: f32,
    weights: Vec<Tensor<2>>,
    precision: Precision,
) -> Tensor<D> {
    let (input, norm) = (input.into_dispatch(), norm_weight.into_dispatch());
    let mut weights = weights.into_iter().map(Tensor::into_dispatch);
    let output = match (weights.next(), weights.next(), weights.next(), weights.next()) {
        (Some(a), Some(b), None, None) => Dispatch::fused_normed_linears_2(input, norm, a, b, epsilon, precision),
        (Some(a), Some(b), Some(c), None) => Dispatch::fused_normed_linears_3(input, norm, a, b, c, epsilon, precision),
        _ => unreachable!("two or three layers side by side"),
    };
    Tensor::from_dispatch(output)
}

#[backend_extension(Flex, Autodiff)]
trait FusedNormedLinear: Backend {
    fn fused_normed_linears_2(
        input: FloatTensor<Self>,
        norm_weight: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        epsilon: f32,
        precision: Precision,
    ) -> FloatTensor<Self>;

    fn fused_normed_linears_3(
        input: FloatTensor<Self>,
        norm_weight: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        third: FloatTensor<Self>,
        epsilon: f32,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

impl FusedNormedLinear for Flex {
    fn fused_normed_linears_2(
        input: FlexTensor,
        norm_weight: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        epsilon: f32,
        precision: Precision,
    ) -> FlexTensor {
        Saved::new(input, norm_weight, vec![first, second], epsilon, precision).layers().forward(None)
    }

    fn fused_normed_linears_3(
        input: FlexTensor,
        norm_weight: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        third: FlexTensor,
        epsilon: f32,
        precision: Precision,
    ) -> FlexTensor {
        Saved::new(input, norm_weight, vec![first, second, third], epsilon, precision).layers().forward(None)
    }
}

impl<C: CheckpointStrategy> FusedNormedLinear for Autodiff<Flex, C> {
    fn fused_normed_linears_2(
        input: FloatTensor<Self>,
        norm_weight: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        epsilon: f32,
        precision: Precision,
    ) -> FloatTensor<Self> {
        tracked::<C, 4>([input, norm_weight, first, second], epsilon, precision)
    }

    fn fused_normed_linears_3(
        input: FloatTensor<Self>,
        norm_weight: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        third: FloatTensor<Self>,
        epsilon: f32,
        precision: Precision,
    ) -> FloatTensor<Self> {
        tracked::<C, 5>([input, norm_weight, first, second, third], epsilon, precision)
    }
}

/// The input first, then the norm's weight, then the layers'.
fn tracked<C: CheckpointStrategy, const N: usize>(
    tensors: [FloatTensor<Autodiff<Flex, C>>; N],
    epsilon: f32,
    precision: Precision,
) -> FloatTensor<Autodiff<Flex, C>> {
    let mut weights = Vec::with_capacity(N);
    let nodes = tensors.map(|tensor| {
        let (tensor, node) = tensor.into_parts();
        weights.push(tensor);
        node
    });
    let (input, norm_weight) = (weights.remove(0), weights.remove(0));
    let saved = Saved::new(input, norm_weight, weights, epsilon, precision);
    let output = saved.layers().forward(None);
    match NormedLinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(operation) => operation.finish(saved, output),
        OpsKind::UnTracked(operation) => operation.finish(output),
    }
}

#[derive(Clone, Debug)]
struct Saved {
    norm: rms_norm::Saved,
    weights: Vec<FlexTensor>,
    precision: Precision,
}

impl Saved {
    fn new(
        input: FlexTensor,
        norm_weight: FlexTensor,
        weights: Vec<FlexTensor>,
        epsilon: f32,
        precision: Precision,
    ) -> Self {
        let norm = rms_norm::Saved { input: input.to_contiguous(), weight: norm_weight.to_contiguous(), epsilon };
        Self { norm, weights, precision }
    }

    /// The layers, with the norm computed for them.
    fn layers(&self) -> Layers {
        let rms_norm::Saved { input, weight, epsilon } = &self.norm;
        let normed = timed(Operator::RmsNorm, Direction::Forward, || rms_norm::forward(input, weight, *epsilon));
        Layers::new(normed, self.weights.iter().cloned(), self.precision)
    }
}

#[derive(Debug)]
struct NormedLinearBackward;

impl<const N: usize> Backward<Flex, N> for NormedLinearBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, N>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let upstream = matrix(&output_gradient);
        let layers = ops.state.layers();
        let mut nodes = ops.parents.into_iter().map(|node| node.map(|node| node.id));
        let (input, norm_weight) = (nodes.next().flatten(), nodes.next().flatten());
        layers.register_weight_gradients(upstream, &mut nodes, gradients);
        if input.is_none() && norm_weight.is_none() {
            return;
        }
        let normed = timed(Operator::Linear, Direction::Backward, || layers.input_gradient(upstream));
        drop((layers, output_gradient));
        let (input_gradient, weight_gradient) =
            timed(Operator::RmsNorm, Direction::Backward, || rms_norm::backward(&ops.state.norm, &normed));
        if let Some(node) = input {
            gradients.register::<Flex>(node, input_gradient);
        }
        if let Some(node) = norm_weight {
            gradients.register::<Flex>(node, weight_gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Tensor, TensorData, Tolerance};

    use crate::drawn::drawn;
    use crate::gemm::Precision;
    use crate::linear::{linear_composed, linears, normed_linears};
    use crate::rms_norm::{rms_norm, rms_norm_composed};

    /// How the norm and its layers are computed.
    #[derive(Clone, Copy, PartialEq)]
    enum Way {
        Together,
        Apart,
        Composed,
    }

    /// Output and the gradients of input, norm and layers.
    fn results<const N: usize>(way: Way, precision: Precision) -> Vec<TensorData> {
        let input: Tensor<3> = drawn(1, [3, 29, 37], -1.5..2.0).autodiff().require_grad();
        let norm: Tensor<1> = drawn(2, [37], -1.5..2.0).autodiff().require_grad();
        let weights: [Tensor<2>; N] =
            std::array::from_fn(|i| drawn(3 + i as u64, [5 + 14 * i, 37], -1.0..1.0).autodiff().require_grad());
        let output: Tensor<3> = match way {
            Way::Together => normed_linears(input.clone(), norm.clone(), 1e-5, weights.clone(), precision),
            Way::Apart => linears(rms_norm(input.clone(), norm.clone(), 1e-5), weights.clone(), precision),
            Way::Composed => {
                let normed = rms_norm_composed(input.clone(), norm.clone(), 1e-5);
                let layer = |weight| linear_composed(normed.clone(), weight, precision);
                Tensor::cat(weights.clone().map(layer).to_vec(), 2)
            }
        };
        let upstream = drawn(9, output.dims(), -1.0..1.0).autodiff();
        let gradients = (output.clone() * upstream).sum().backward();
        let mut results = vec![output.into_data(), input.grad(&gradients).unwrap().into_data()];
        results.push(norm.grad(&gradients).unwrap().into_data());
        results.extend(weights.iter().map(|weight| weight.grad(&gradients).unwrap().into_data()));
        results
    }

    #[test]
    fn values_and_gradients_are_to_the_bit_those_of_the_norm_and_the_layers_apart() {
        for precision in [Precision::Fp32, Precision::Bf16] {
            assert_eq!(results::<2>(Way::Together, precision), results::<2>(Way::Apart, precision));
            assert_eq!(results::<3>(Way::Together, precision), results::<3>(Way::Apart, precision));
        }
    }

    #[test]
    fn values_and_gradients_are_those_of_the_composed_operators() {
        let composed = results::<3>(Way::Composed, Precision::Fp32);
        for (fused, composed) in results::<3>(Way::Together, Precision::Fp32).iter().zip(composed) {
            // Sums of up to 87 products of values of up to about 20, in another order.
            fused.assert_approx_eq::<f32>(&composed, Tolerance::absolute(2e-4));
        }
    }

    #[test]
    fn frozen_layers_let_the_gradient_through() {
        let input: Tensor<2> = drawn(1, [4, 7], -1.0..1.0).autodiff().require_grad();
        let (norm, weight) = (drawn(2, [7], 0.5..1.0).autodiff(), drawn::<2>(3, [1, 7], 0.5..1.0).autodiff());
        let output = normed_linears(input.clone(), norm, 1e-5, [weight.clone(), weight], Precision::Fp32);
        let gradients = output.sum().backward();
        assert!(input.grad(&gradients).unwrap().abs().sum().into_scalar::<f32>() > 0.0);
    }
}
