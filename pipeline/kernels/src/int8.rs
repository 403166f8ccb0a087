//! Inputs of matrix products, rounded to 8 bits as llama.cpp's CPU operators round them, and gradients as if they were not.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;
use half::f16;
use rayon::prelude::*;

use crate::flex::{tensor_like, unwritten, values};
use crate::placement::{Implementation, implementation_for};

/// Values that share a scale.
pub const INT8_BLOCK: usize = 32;

/// Values that a task handles.
const VALUES_PER_TASK: usize = INT8_BLOCK << 9;

/// Every 32 values of the last dimension as codes of 8 bits times a scale, which is a binary16: the largest magnitude over
/// 127. Gradients pass straight through (Bengio et al. 2013, arXiv:1308.3432). Where the last dimension is no multiple of 32
/// nothing is rounded: no matrix in these blocks reads it.
///
/// Elsewhere than on the CPU there are no gradients, and the values take the way over the host.
///
/// # Source
/// `quantize_row_q8_0` of llama.cpp's `ggml-quants.c`: what a CPU multiplies rows of Q4_0 and Q8_0 with.
pub fn int8_rounded<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    if !input.dims()[D - 1].is_multiple_of(INT8_BLOCK) {
        return input;
    }
    match implementation_for(&input) {
        Implementation::Fused => {
            Tensor::from_dispatch(<Dispatch as FusedInt8>::fused_int8_rounded(input.into_dispatch()))
        }
        Implementation::Composed => {
            let (device, shape) = (input.device(), input.dims());
            let values = input.into_data().convert::<f32>().try_to_vec().expect("converted to 32-bit floats");
            Tensor::from_data(TensorData::new(rounded(&values), shape), &device)
        }
    }
}

#[backend_extension(Flex, Autodiff)]
trait FusedInt8: Backend {
    fn fused_int8_rounded(input: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl FusedInt8 for Flex {
    fn fused_int8_rounded(input: FlexTensor) -> FlexTensor {
        let input = input.to_contiguous();
        tensor_like(&input, rounded(values(&input)))
    }
}

impl<C: CheckpointStrategy> FusedInt8 for Autodiff<Flex, C> {
    fn fused_int8_rounded(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        let output = Flex::fused_int8_rounded(input);
        match StraightThrough.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(operation) => operation.finish((), output),
            OpsKind::UnTracked(operation) => operation.finish(output),
        }
    }
}

#[derive(Debug)]
struct StraightThrough;

impl Backward<Flex, 1> for StraightThrough {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let [parent] = ops.parents;
        if let Some(node) = parent {
            gradients.register::<Flex>(node.id, gradient);
        }
    }
}

fn rounded(values: &[f32]) -> Vec<f32> {
    let mut output = unwritten(values.len());
    output.par_chunks_mut(VALUES_PER_TASK).zip(values.par_chunks(VALUES_PER_TASK)).for_each(|(output, values)| {
        let blocks = output.as_chunks_mut::<INT8_BLOCK>().0.iter_mut().zip(values.as_chunks::<INT8_BLOCK>().0);
        blocks.for_each(|(output, block)| *output = rounded_block(block));
    });
    output
}

/// Codes are computed with the scale as it is, then the scale is rounded.
fn rounded_block(block: &[f32; INT8_BLOCK]) -> [f32; INT8_BLOCK] {
    let scale = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs())) / 127.0;
    let inverse = 1.0 / scale;
    // Of a scale so small that its inverse is infinite the stored scale is 0.
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    let stored = f16::from_f32(scale).to_f32();
    block.map(|value| stored * (value * inverse).round())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::drawn;
    use proptest::prelude::*;

    #[test]
    fn a_block_has_the_values_of_the_definition() {
        // 12.7 / 127 is a tenth, in binary16 0.0999755859375; 0.26 is 2.6 of them, 0.051 is 0.51.
        let mut block = [0.0; INT8_BLOCK];
        (block[0], block[7], block[31]) = (-12.7, 0.26, 0.051);
        let scale = 0.099_975_586;
        let found = rounded_block(&block);
        assert_eq!([found[0], found[7], found[31], found[1]], [-127.0 * scale, 3.0 * scale, scale, 0.0]);
    }

    #[test]
    fn gradients_pass_straight_through() {
        let input = drawn(1, [3, 5, 64], -2.0..2.0).autodiff().require_grad();
        let upstream = drawn(2, [3, 5, 64], -1.0..1.0);
        let output = int8_rounded(input.clone());
        let changed = (output.clone() - input.clone()).abs().max().into_scalar::<f32>();
        // Half a step, and what the rounding of the scale to 11 bits moves a value of 2.
        assert!(changed > 0.0 && changed < 1.0 / 127.0 + 2.0 / 2048.0, "{changed}");
        let gradients = (output * upstream.clone().autodiff()).sum().backward();
        assert_eq!(input.grad(&gradients).unwrap().into_data(), upstream.into_data());
    }

    #[test]
    fn rows_that_are_not_whole_blocks_stay() {
        let input = drawn(3, [2, 3, 48], -1.0..1.0);
        assert_eq!(int8_rounded(input.clone()).into_data(), input.into_data());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn at_any_size_values_stay_within_half_a_step(rows in 1usize..50, blocks in 1usize..5) {
            let input = drawn(1, [rows, blocks * INT8_BLOCK], -2.0..2.0).autodiff().require_grad();
            let upstream = drawn::<2>(2, input.dims(), -1.0..1.0);
            let output = int8_rounded(input.clone());
            let numbers = |tensor: Tensor<2>| tensor.into_data().try_into_vec::<f32>().unwrap();
            let (before, after) = (numbers(input.clone().inner()), numbers(output.clone().inner()));
            for (before, after) in before.chunks(INT8_BLOCK).zip(after.chunks(INT8_BLOCK)) {
                let largest = before.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                // Half a step of a 127th, and what the rounding of the scale to 11 bits moves the largest.
                let most = largest * (0.51 / 127.0 + 1.0 / 2048.0);
                prop_assert!(before.iter().zip(after).all(|(a, b)| (a - b).abs() <= most));
                prop_assert!(before.iter().zip(after).any(|(a, b)| a != b), "nothing was rounded");
            }
            let gradients = (output * upstream.clone().autodiff()).sum().backward();
            prop_assert_eq!(input.grad(&gradients).unwrap().into_data(), upstream.into_data());
        }
    }
}
