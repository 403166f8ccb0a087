//! Linear layers of the CPU: one product for each weight, written where it belongs.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;

use crate::flex::{last_dimension, matrix, shaped, unwritten, values};
use crate::gemm::{Matrix, Output, Precision, multiply, multiply_side_by_side};
use crate::kept::Kept;
use crate::profile::{Direction, Operator, timed};

/// See [`crate::linear`].
pub(crate) fn linear<const D: usize>(input: Tensor<D>, weight: Tensor<2>, precision: Precision) -> Tensor<D> {
    let (input, weight) = (input.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as FusedLinear>::fused_linear(input, weight, precision))
}

/// See [`crate::linear_add`].
pub(crate) fn linear_add<const D: usize>(
    residual: Tensor<D>,
    input: Tensor<D>,
    weight: Tensor<2>,
    precision: Precision,
) -> Tensor<D> {
    let (residual, input, weight) = (residual.into_dispatch(), input.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as FusedLinear>::fused_linear_add(residual, input, weight, precision))
}

/// See [`crate::linears`].
pub(crate) fn linears<const D: usize>(input: Tensor<D>, weights: Vec<Tensor<2>>, precision: Precision) -> Tensor<D> {
    let input = input.into_dispatch();
    let mut weights = weights.into_iter().map(Tensor::into_dispatch);
    let output = match (weights.next(), weights.next(), weights.next(), weights.next()) {
        (Some(a), Some(b), None, None) => <Dispatch as FusedLinear>::fused_linears_2(input, a, b, precision),
        (Some(a), Some(b), Some(c), None) => <Dispatch as FusedLinear>::fused_linears_3(input, a, b, c, precision),
        _ => unreachable!("two or three layers side by side"),
    };
    Tensor::from_dispatch(output)
}

#[backend_extension(Flex, Autodiff)]
trait FusedLinear: Backend {
    fn fused_linear(input: FloatTensor<Self>, weight: FloatTensor<Self>, precision: Precision) -> FloatTensor<Self>;

    fn fused_linear_add(
        residual: FloatTensor<Self>,
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;

    fn fused_linears_2(
        input: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;

    fn fused_linears_3(
        input: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        third: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

impl FusedLinear for Flex {
    fn fused_linear(input: FlexTensor, weight: FlexTensor, precision: Precision) -> FlexTensor {
        Layers::new(input, [weight], precision).forward(None)
    }

    fn fused_linear_add(
        residual: FlexTensor,
        input: FlexTensor,
        weight: FlexTensor,
        precision: Precision,
    ) -> FlexTensor {
        Layers::new(input, [weight], precision).forward(Some(residual))
    }

    fn fused_linears_2(input: FlexTensor, first: FlexTensor, second: FlexTensor, precision: Precision) -> FlexTensor {
        Layers::new(input, [first, second], precision).forward(None)
    }

    fn fused_linears_3(
        input: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        third: FlexTensor,
        precision: Precision,
    ) -> FlexTensor {
        Layers::new(input, [first, second, third], precision).forward(None)
    }
}

impl<C: CheckpointStrategy> FusedLinear for Autodiff<Flex, C> {
    fn fused_linear(input: FloatTensor<Self>, weight: FloatTensor<Self>, precision: Precision) -> FloatTensor<Self> {
        tracked::<C, 2>([input, weight], precision)
    }

    fn fused_linear_add(
        residual: FloatTensor<Self>,
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (residual, residual_node) = residual.into_parts();
        let (input, input_node) = input.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let layers = Layers::new(input, [weight], precision);
        let output = layers.forward(Some(residual));
        let nodes = [input_node, weight_node, residual_node];
        match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(operation) => operation.finish(layers.kept(), output),
            OpsKind::UnTracked(operation) => operation.finish(output),
        }
    }

    fn fused_linears_2(
        input: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        tracked::<C, 3>([input, first, second], precision)
    }

    fn fused_linears_3(
        input: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        third: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        tracked::<C, 4>([input, first, second, third], precision)
    }
}

/// The input first, then the weights.
fn tracked<C: CheckpointStrategy, const N: usize>(
    tensors: [FloatTensor<Autodiff<Flex, C>>; N],
    precision: Precision,
) -> FloatTensor<Autodiff<Flex, C>> {
    let mut weights = Vec::with_capacity(N);
    let nodes = tensors.map(|tensor| {
        let (tensor, node) = tensor.into_parts();
        weights.push(tensor);
        node
    });
    let input = weights.remove(0);
    let layers = Layers::new(input, weights, precision);
    let output = layers.forward(None);
    match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(operation) => operation.finish(layers.kept(), output),
        OpsKind::UnTracked(operation) => operation.finish(output),
    }
}

/// Layers that read one input.
pub(crate) struct Layers {
    input: FlexTensor,
    weights: Vec<FlexTensor>,
    precision: Precision,
}

impl Layers {
    pub(crate) fn new(input: FlexTensor, weights: impl IntoIterator<Item = FlexTensor>, precision: Precision) -> Self {
        let weights = weights.into_iter().map(|weight| weight.to_contiguous()).collect();
        Self { input: input.to_contiguous(), weights, precision }
    }

    fn output_size(&self) -> usize {
        self.weights.iter().map(|weight| matrix(weight).rows).sum()
    }

    /// What the backward pass needs: the input rounded as the products round it.
    fn kept(self) -> Saved {
        let input = timed(Operator::Linear, Direction::Forward, || Kept::new(&self.input).rounded(self.precision));
        Saved { input, weights: self.weights, precision: self.precision }
    }

    /// The outputs side by side, on top of `residual`.
    pub(crate) fn forward(&self, residual: Option<FlexTensor>) -> FlexTensor {
        timed(Operator::Linear, Direction::Forward, || self.output(residual))
    }

    fn output(&self, residual: Option<FlexTensor>) -> FlexTensor {
        let (input, output_size) = (matrix(&self.input), self.output_size());
        let mut shape = self.input.layout().shape().clone();
        let last = shape.num_dims() - 1;
        shape[last] = output_size;
        let (mut output, mode) = match residual {
            Some(residual) => (values(&residual.to_contiguous()).to_vec(), Output::Add),
            None => (unwritten(input.rows * output_size), Output::Replace),
        };
        let weights: Vec<Matrix<'_>> = self.weights.iter().map(|weight| matrix(weight).transposed()).collect();
        multiply_side_by_side(self.precision, input, &weights, &mut output, output_size, mode);
        shaped(shape, output)
    }

    /// `Σ dy · weight`.
    pub(crate) fn input_gradient(&self, output_gradient: Matrix<'_>) -> FlexTensor {
        let input = matrix(&self.input);
        let mut gradient = unwritten(input.rows * input.columns);
        let (mut column, mut mode) = (0, Output::Replace);
        for weight in &self.weights {
            let weight = matrix(weight);
            let columns = column..column + weight.rows;
            let output_gradient = output_gradient.block(0..input.rows, columns);
            multiply(self.precision, output_gradient, weight, &mut gradient, input.columns, mode);
            (column, mode) = (column + weight.rows, Output::Add);
        }
        shaped(self.input.layout().shape().clone(), gradient)
    }

    /// The gradient of every weight that has a node. Takes one node a weight.
    pub(crate) fn register_weight_gradients(
        &self,
        output_gradient: Matrix<'_>,
        nodes: &mut impl Iterator<Item = Option<NodeId>>,
        gradients: &mut Gradients,
    ) {
        let mut column = 0;
        for (weight, node) in self.weights.iter().zip(nodes) {
            if let Some(node) = node {
                let gradient = timed(Operator::Linear, Direction::Backward, || {
                    self.weight_gradient(weight, column, output_gradient)
                });
                gradients.register::<Flex>(node, gradient);
            }
            column += matrix(weight).rows;
        }
    }

    /// `dyᵀ · input` of the layer whose outputs start at `column`.
    pub(crate) fn weight_gradient(
        &self,
        weight: &FlexTensor,
        column: usize,
        output_gradient: Matrix<'_>,
    ) -> FlexTensor {
        let (input, shape) = (matrix(&self.input), weight.layout().shape().clone());
        let weight = matrix(weight);
        let mut gradient = unwritten(weight.rows * weight.columns);
        let output_gradient = output_gradient.block(0..input.rows, column..column + weight.rows);
        multiply(self.precision, output_gradient.transposed(), input, &mut gradient, weight.columns, Output::Replace);
        shaped(shape, gradient)
    }
}

/// [`Layers`] between the passes.
#[derive(Clone, Debug)]
struct Saved {
    input: Kept,
    weights: Vec<FlexTensor>,
    precision: Precision,
}

impl Saved {
    fn layers(self) -> Layers {
        let input = timed(Operator::Linear, Direction::Backward, || self.input.tensor());
        Layers { input, weights: self.weights, precision: self.precision }
    }
}

#[derive(Debug)]
struct LinearBackward;

impl<const N: usize> Backward<Flex, N> for LinearBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, N>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let output_matrix = matrix(&output_gradient);
        let layers = ops.state.layers();
        debug_assert_eq!(last_dimension(&output_gradient), layers.output_size());
        let mut parents = ops.parents.into_iter().map(|node| node.map(|node| node.id));
        if let Some(input) = parents.next().flatten() {
            let gradient = timed(Operator::Linear, Direction::Backward, || layers.input_gradient(output_matrix));
            gradients.register::<Flex>(input, gradient);
        }
        layers.register_weight_gradients(output_matrix, &mut parents, gradients);
        if let Some(residual) = parents.next().flatten() {
            gradients.register::<Flex>(residual, output_gradient.clone());
        }
    }
}
