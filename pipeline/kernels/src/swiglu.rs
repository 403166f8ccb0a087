//! The gated activation of the feed-forward layer.

use burn::tensor::Tensor;
use burn::tensor::activation::silu;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::flex::{shaped, unwritten, values};
use crate::kept::Kept;
use crate::level::vectorized;
use crate::simd::sigmoid;

/// Values a task handles.
const VALUES_PER_TASK: usize = 1 << 14;

/// `silu(gate) * up` (SwiGLU: Shazeer 2020, arXiv:2002.05202), from Burn's operations: the other devices' implementation, and
/// the reference of the fused one.
///
/// # Shapes
/// - `gate_up`: `[.., 2 * intermediate_size]`, the gates before the others
/// - output: `[.., intermediate_size]`
pub fn swiglu_composed<const D: usize>(gate_up: Tensor<D>) -> Tensor<D> {
    let size = gate_up.dims()[D - 1] / 2;
    silu(gate_up.clone().narrow(D - 1, 0, size)) * gate_up.narrow(D - 1, size, size)
}

/// See [`swiglu_composed`].
pub(crate) fn activate(gate_up: &Kept) -> FlexTensor {
    let size = gate_up.last_dimension() / 2;
    let mut output = unwritten(gate_up.len() / 2);
    let task = rows_per_task(size) * size;
    output.par_chunks_mut(task).enumerate().for_each(|(index, output)| {
        let gate_up = gate_up.part(2 * index * task..2 * (index * task + output.len()));
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
    });
    let mut shape = gate_up.shape().clone();
    let last = shape.num_dims() - 1;
    shape[last] = size;
    shaped(shape, output)
}

/// With `s = sigmoid(gate)`: `dgate = dy · up · s · (1 + gate · (1 - s))` and `dup = dy · gate · s`.
pub(crate) fn activate_backward(gate_up: &Kept, output_gradient: &FlexTensor) -> FlexTensor {
    let size = gate_up.last_dimension() / 2;
    let mut gradient = unwritten(gate_up.len());
    let task = rows_per_task(size) * size;
    let tasks = gradient.par_chunks_mut(2 * task).zip(values(output_gradient).par_chunks(task));
    tasks.enumerate().for_each(|(index, (gradient, upstream))| {
        let gate_up = gate_up.part(2 * index * task..2 * index * task + gradient.len());
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
    shaped(gate_up.shape().clone(), gradient)
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

    /// More values than a task has.
    const SHAPE: [usize; 3] = [3, 83, 142];
    const SIZE: usize = SHAPE[2] / 2;

    fn drawn_flex(seed: u64, shape: [usize; 3]) -> FlexTensor {
        let values = drawn(seed, shape, -9.0..9.0).into_data().try_to_vec::<f32>().unwrap();
        shaped(shape.into(), values)
    }

    fn sigmoid_of(gate: f64) -> f64 {
        1.0 / (1.0 + (-gate).exp())
    }

    #[test]
    fn values_are_those_of_the_definition() {
        let input = drawn_flex(1, SHAPE);
        let output = activate(&Kept::new(&input));
        for (row, output) in values(&input).chunks(SHAPE[2]).zip(values(&output).chunks(SIZE)) {
            let (gates, ups) = row.split_at(SIZE);
            for ((gate, up), actual) in gates.iter().zip(ups).zip(output) {
                let (gate, up) = (f64::from(*gate), f64::from(*up));
                let expected = gate * sigmoid_of(gate) * up;
                assert!((f64::from(*actual) - expected).abs() < 1e-6 * expected.abs(), "{actual} {expected}");
            }
        }
    }

    #[test]
    fn gradients_are_central_differences_of_the_definition() {
        let (input, upstream) = (drawn_flex(1, SHAPE), drawn_flex(3, [SHAPE[0], SHAPE[1], SIZE]));
        let gradient = activate_backward(&Kept::new(&input), &upstream);
        let silu = |gate: f64| gate * sigmoid_of(gate);
        let rows = values(&input).chunks(SHAPE[2]).zip(values(&upstream).chunks(SIZE));
        for ((input, upstream), actual) in rows.zip(values(&gradient).chunks(SHAPE[2])) {
            for i in 0..SIZE {
                let [gate, up, upstream] = [input[i], input[SIZE + i], upstream[i]].map(f64::from);
                let slope = (silu(gate + 1e-5) - silu(gate - 1e-5)) / 2e-5;
                for (actual, expected) in
                    [(actual[i], upstream * up * slope), (actual[SIZE + i], upstream * silu(gate))]
                {
                    // A millionth of the largest, 81.
                    assert!((f64::from(actual) - expected).abs() < 8e-5, "{actual} {expected}");
                }
            }
        }
    }
}
