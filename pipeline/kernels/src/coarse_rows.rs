//! Rows of logits as those of a few listed ids and of the rest together, on the CPU.

use burn::backend::Flex;
use burn::tensor::{Int, Shape, Tensor};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::flex::{last_dimension, shaped, unwritten, values};
use crate::level::vectorized;
use crate::row_losses::{indices, primitive, rows_per_task};
use crate::simd::{exp_shifted, largest};

/// The logit of what has no probability: finite, so that differences are, and beyond what an exponential can tell from 0.
pub const NOTHING: f32 = -1e30;

/// Rows of logits, coarsened, with what the gradient's way back needs.
#[derive(Debug)]
pub struct CoarseRows {
    /// Logits of the listed ids: `[rows, listed]`.
    pub listed: Tensor<2>,
    /// ln Σ exp over all other ids, [`NOTHING`] if there are none: `[rows, 1]`.
    pub rest: Tensor<2>,
    ids: Vec<usize>,
    /// The softmax over the rest, but for a factor a row; 0 for the listed ids: `[rows, vocab_size]`.
    exponentials: FlexTensor,
    /// Of the exponentials of each row.
    sums: Vec<f32>,
}

impl CoarseRows {
    /// Overwrites the logits unless somebody else holds them.
    ///
    /// # Shapes
    /// - `logits`: `[rows, vocab_size]`
    /// - `ids`: `[rows, listed]`, one at least; an id may come twice
    ///
    /// # Panics
    /// If [`crate::implementation_for`] the logits is not fused.
    pub fn of(logits: Tensor<2>, ids: Tensor<2, Int>) -> Self {
        let [rows, listed_size] = ids.dims();
        let ids = indices(ids);
        let mut logits = primitive(logits);
        let vocab_size = last_dimension(&logits);
        let (mut listed, mut rest, mut sums) = (unwritten(rows * listed_size), unwritten(rows), unwritten(rows));
        let task = rows_per_task(vocab_size);
        let tasks =
            logits.storage_mut::<f32>().par_chunks_mut(task * vocab_size).zip(ids.par_chunks(task * listed_size));
        let outputs =
            listed.par_chunks_mut(task * listed_size).zip(rest.par_chunks_mut(task).zip(sums.par_chunks_mut(task)));
        tasks.zip(outputs).for_each(|((logits, ids), (listed, (rest, sums)))| {
            vectorized(
                #[inline(always)]
                || {
                    let rows = logits.chunks_mut(vocab_size).zip(ids.chunks(listed_size));
                    let outputs = listed.chunks_mut(listed_size).zip(rest.iter_mut().zip(sums));
                    for ((row, ids), (listed, (rest, sum))) in rows.zip(outputs) {
                        (*rest, *sum) = coarsen_row(row, ids, listed);
                    }
                },
            );
        });
        Self {
            listed: tensor([rows, listed_size], listed),
            rest: tensor([rows, 1], rest),
            ids,
            exponentials: logits,
            sums,
        }
    }

    /// The derivative by all logits from that by the coarse ones: the rest's is shared by probability.
    ///
    /// # Shapes
    /// - `gradient`: `[rows, listed + 1]`, the rest last; the result: `[rows, vocab_size]`
    pub fn logit_gradient(self, gradient: Tensor<2>) -> Tensor<2> {
        let Self { ids, mut exponentials, sums, .. } = self;
        let classes = gradient.dims()[1];
        let gradient = primitive(gradient);
        let vocab_size = last_dimension(&exponentials);
        let task = rows_per_task(vocab_size);
        let tasks = exponentials.storage_mut::<f32>().par_chunks_mut(task * vocab_size);
        let inputs = values(&gradient).par_chunks(task * classes).zip(ids.par_chunks(task * (classes - 1)));
        tasks.zip(inputs.zip(sums.par_chunks(task))).for_each(|(rows, ((gradient, ids), sums))| {
            vectorized(
                #[inline(always)]
                || {
                    let inputs = gradient.chunks(classes).zip(ids.chunks(classes - 1).zip(sums));
                    for (row, (gradient, (ids, sum))) in rows.chunks_mut(vocab_size).zip(inputs) {
                        let factor = gradient[classes - 1] / sum;
                        row.iter_mut().for_each(|value| *value *= factor);
                        ids.iter().zip(gradient).for_each(|(id, gradient)| row[*id] += gradient);
                    }
                },
            );
        });
        Tensor::from_primitive::<Flex>(exponentials)
    }
}

/// Turns the row into exponentials; returns the rest's logit and their sum.
#[inline(always)]
fn coarsen_row(row: &mut [f32], ids: &[usize], listed: &mut [f32]) -> (f32, f32) {
    // All before any is overwritten: an id may come twice.
    ids.iter().zip(listed).for_each(|(id, listed)| *listed = row[*id]);
    ids.iter().for_each(|id| row[*id] = f32::NEG_INFINITY);
    let largest = largest(row);
    if largest == f32::NEG_INFINITY {
        row.fill(0.0);
        return (NOTHING, 1.0);
    }
    // At least 1, so that the least value of an exponential, which the listed ones have in it, is rounded away.
    let sum = exp_shifted(row, largest);
    ids.iter().for_each(|id| row[*id] = 0.0);
    (largest + sum.ln(), sum)
}

fn tensor(shape: [usize; 2], values: Vec<f32>) -> Tensor<2> {
    Tensor::from_primitive::<Flex>(shaped(Shape::new(shape), values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::drawn;
    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;

    const ROWS: usize = 5;
    const LISTED: usize = 3;

    fn ids(ids: [[i32; LISTED]; ROWS]) -> Tensor<2, Int> {
        Tensor::from_ints(ids, &Device::flex())
    }

    fn numbers(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_to_vec().expect("32-bit floats")
    }

    /// More values than a task has, and an id that comes twice.
    #[test]
    fn the_coarse_logits_have_the_exponentials_of_all() {
        const VOCAB_SIZE: usize = (1 << 14) + 1;
        let logits = drawn::<2>(3, [ROWS, VOCAB_SIZE], -9.0..9.0);
        let listed = [[7, 3, 16_384], [0, 0, 0], [1, 2, 1], [9, 8, 7], [5, 6, 5]];
        let coarse = CoarseRows::of(logits.clone(), ids(listed));
        let (values, rest) = (numbers(coarse.listed.clone()), numbers(coarse.rest.clone()));
        for (row, logits) in numbers(logits).chunks(VOCAB_SIZE).enumerate() {
            let others = (0..VOCAB_SIZE).filter(|id| !listed[row].contains(&(*id as i32)));
            let expected = others.map(|id| f64::from(logits[id]).exp()).sum::<f64>().ln();
            assert!((f64::from(rest[row]) - expected).abs() < 2e-6, "{row}: {} against {expected}", rest[row]);
            let of_row = &values[row * LISTED..][..LISTED];
            assert!(listed[row].iter().zip(of_row).all(|(id, value)| logits[*id as usize] == *value));
        }
    }

    /// The derivative of Σ weight · coarse logit, by hand: of the rest, the weight times the softmax over it.
    #[test]
    fn the_gradient_of_the_rest_is_shared_by_probability() {
        let logits = Tensor::from_floats([[0.0, 2f32.ln(), 3f32.ln(), 9.0, 5.0]; ROWS], &Device::flex());
        let coarse = CoarseRows::of(logits, ids([[3, 4, 3]; ROWS]));
        let gradient = coarse.logit_gradient(Tensor::from_floats([[0.25, -1.0, 0.5, 12.0]; ROWS], &Device::flex()));
        for row in numbers(gradient).chunks(5) {
            for (entry, expected) in row.iter().zip([2.0, 4.0, 6.0, 0.75, -1.0]) {
                assert!((entry - expected).abs() < 1e-5, "{row:?}");
            }
        }
    }

    #[test]
    fn without_a_rest_there_is_nothing_to_share() {
        let logits = Tensor::from_data(TensorData::new(vec![1.0f32; ROWS * LISTED], [ROWS, LISTED]), &Device::flex());
        let coarse = CoarseRows::of(logits, ids([[2, 0, 1]; ROWS]));
        assert_eq!(numbers(coarse.rest.clone()), [NOTHING; ROWS]);
        let gradient = coarse.logit_gradient(Tensor::from_floats([[1.0, 2.0, 3.0, 4.0]; ROWS], &Device::flex()));
        assert_eq!(numbers(gradient), [2.0, 3.0, 1.0].repeat(ROWS));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn values_and_gradients_of_any_size_are_those_in_64_bits(
            listed in prop::collection::vec(prop::array::uniform3(0i32..8), 1..9), vocab_size in 9usize..200,
        ) {
            let (rows, device) = (listed.len(), Device::flex());
            let logits = drawn::<2>(3, [rows, vocab_size], -4.0..4.0);
            let ids = Tensor::from_data(TensorData::new(listed.concat(), [rows, LISTED]), &device);
            let upstream = drawn::<2>(4, [rows, LISTED + 1], -1.0..1.0);
            let coarse = CoarseRows::of(logits.clone(), ids);
            let rest = numbers(coarse.rest.clone());
            let gradient = numbers(coarse.logit_gradient(upstream.clone()));
            let (logits, upstream) = (numbers(logits), numbers(upstream));
            for (row, ids) in listed.iter().enumerate() {
                let of_row = &logits[row * vocab_size..][..vocab_size];
                let weights = &upstream[row * (LISTED + 1)..][..LISTED + 1];
                let share = |id: usize| f64::from(of_row[id]).exp();
                let sum: f64 = (0..vocab_size).filter(|id| !ids.contains(&(*id as i32))).map(share).sum();
                prop_assert!((f64::from(rest[row]) - sum.ln()).abs() < 2e-6);
                for id in 0..vocab_size {
                    let of_id = ids.iter().zip(weights).filter(|(listed, _)| **listed as usize == id);
                    let expected = match ids.contains(&(id as i32)) {
                        true => of_id.map(|(_, weight)| f64::from(*weight)).sum(),
                        false => f64::from(weights[LISTED]) * share(id) / sum,
                    };
                    let actual = f64::from(gradient[row * vocab_size + id]);
                    prop_assert!((actual - expected).abs() < 2e-6, "{} {} {}", id, actual, expected);
                }
            }
        }
    }
}
