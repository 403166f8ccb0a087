//! Products of few rows, as generation makes them: bound by the reading of the right operand, so that nothing is packed.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::Output;
use super::fp32::multiply_add;
use super::matrix::Matrix;
use crate::level::level;

/// Rows at most: the right operand is read for each.
pub(super) const ROWS: usize = 4;
/// Values of the right operand that a task reads, about.
const VALUES_PER_TASK: usize = 1 << 15;
/// Columns whose sums are under way at once, so that an addition need not wait for the one before.
const COLUMNS: usize = 4;

/// See [`super::multiply`]; the columns of `right` are contiguous.
pub(super) fn multiply(left: Matrix<'_>, right: Matrix<'_>, output: &mut [f32], row_stride: usize, mode: Output) {
    assert_eq!(left.columns, right.rows, "inner dimensions");
    let (depth, columns) = (right.rows, right.columns);
    if columns == 0 {
        return;
    }
    let task = VALUES_PER_TASK.div_ceil(depth.max(1)).next_multiple_of(COLUMNS);
    for (row, output) in output.chunks_mut(row_stride).enumerate().take(left.rows) {
        let values: Vec<f32> = (0..depth).map(|i| left.value(row, i)).collect();
        output[..columns].par_chunks_mut(task).enumerate().for_each(|(index, output)| {
            level().run(Columns { left: &values, right, first: index * task, output, mode });
        });
    }
}

struct Columns<'a, 'b> {
    left: &'a [f32],
    right: Matrix<'a>,
    first: usize,
    output: &'b mut [f32],
    mode: Output,
}

impl WithSimd for Columns<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { left, right, first, output, mode } = self;
        let column = |index: usize| &right.from(0, first + index)[..left.len()];
        let (whole, rest) = output.as_chunks_mut::<COLUMNS>();
        for (index, output) in whole.iter_mut().enumerate() {
            let sums = sums::<S, COLUMNS>(simd, left, std::array::from_fn(|i| column(index * COLUMNS + i)));
            write(output, &sums, mode);
        }
        let done = whole.len() * COLUMNS;
        for (index, output) in rest.iter_mut().enumerate() {
            write(std::slice::from_mut(output), &sums(simd, left, [column(done + index)]), mode);
        }
    }
}

/// `Σ left · column` for each column, in a register each.
#[inline(always)]
fn sums<S: Simd, const N: usize>(simd: S, left: &[f32], columns: [&[f32]; N]) -> [f32; N] {
    let (vectors, rest) = S::as_simd_f32s(left);
    let columns = columns.map(|column| S::as_simd_f32s(column));
    let mut sums = [simd.splat_f32s(0.0); N];
    for (i, value) in vectors.iter().enumerate() {
        for n in 0..N {
            sums[n] = multiply_add(simd, *value, columns[n].0[i], sums[n]);
        }
    }
    std::array::from_fn(|n| {
        let rest: f32 = rest.iter().zip(columns[n].1).map(|(a, b)| a * b).sum();
        simd.reduce_sum_f32s(sums[n]) + rest
    })
}

#[inline(always)]
fn write(output: &mut [f32], sums: &[f32], mode: Output) {
    for (value, sum) in output.iter_mut().zip(sums) {
        *value = if mode == Output::Add { *value + sum } else { *sum };
    }
}
