//! Products of few rows, as generation makes them: bound by the reading of the right operand, so that nothing is packed and
//! each of its columns is read once for all rows.
//!
//! An element's sum has one order, whatever the rows beside it: an answer has the same bits alone and in a batch.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::Output;
use super::fp32::multiply_add;
use super::matrix::Matrix;
use crate::level::level;

/// Rows at most: from here on packing pays.
pub(super) const ROWS: usize = 16;
/// Values of the right operand that a task reads, about.
const VALUES_PER_TASK: usize = 1 << 15;
/// Sums of an element that are under way at once, so that an addition need not wait for the one before. They are of one column:
/// the processor reads ahead of a single stream, not of several in the same page.
const SUMS: usize = 4;

/// See [`super::multiply_side_by_side`]; the columns of `rights` are contiguous.
pub(super) fn multiply(left: Matrix<'_>, rights: &[Matrix<'_>], output: &mut [f32], row_stride: usize, mode: Output) {
    let rows: Vec<Vec<f32>> =
        (0..left.rows).map(|row| (0..left.columns).map(|i| left.value(row, i)).collect()).collect();
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let mut unassigned: Vec<&mut [f32]> = output.chunks_mut(row_stride).take(left.rows).collect();
    let mut tasks = Vec::new();
    for right in rights {
        assert_eq!(left.columns, right.rows, "inner dimensions");
        let step = VALUES_PER_TASK.div_ceil(right.rows.max(1));
        for first in (0..right.columns).step_by(step) {
            let columns = first..(first + step).min(right.columns);
            let outputs = unassigned.iter_mut().filter_map(|row| row.split_off_mut(..columns.len())).collect();
            tasks.push(Columns { rows: &rows, right: right.block(0..right.rows, columns), outputs, mode });
        }
    }
    tasks.into_par_iter().for_each(|task| level().run(task));
}

struct Columns<'a, 'b> {
    rows: &'b [&'b [f32]],
    right: Matrix<'a>,
    /// The columns of each row.
    outputs: Vec<&'b mut [f32]>,
    mode: Output,
}

impl WithSimd for Columns<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, right, mut outputs, mode } = self;
        for index in 0..right.columns {
            each_row(simd, rows, &right.from(0, index)[..right.rows], &mut outputs, index, mode);
        }
    }
}

/// `Σ row · column` for all rows, at `index` of the output of each; as many rows at once as there are registers for.
#[inline(always)]
pub(crate) fn each_row<S: Simd>(
    simd: S,
    rows: &[&[f32]],
    column: &[f32],
    outputs: &mut [&mut [f32]],
    index: usize,
    mode: Output,
) {
    let mut done = 0;
    if S::REGISTER_COUNT >= 32 {
        for rows in rows.as_chunks::<4>().0 {
            write(&mut outputs[done..], index, sums(simd, *rows, column), mode);
            done += 4;
        }
    }
    for rows in rows[done..].as_chunks::<2>().0 {
        write(&mut outputs[done..], index, sums(simd, *rows, column), mode);
        done += 2;
    }
    for row in &rows[done..] {
        write(&mut outputs[done..], index, sums(simd, [*row], column), mode);
    }
}

/// `Σ row · column` for each row.
#[inline(always)]
fn sums<S: Simd, const R: usize>(simd: S, rows: [&[f32]; R], column: &[f32]) -> [f32; R] {
    let (column, column_rest) = S::as_simd_f32s(column);
    let (groups, column_last) = column.as_chunks::<SUMS>();
    let mut results = [0.0; R];
    let mut sums = [[simd.splat_f32s(0.0); SUMS]; R];
    let rows = rows.map(|row| S::as_simd_f32s(row));
    for (i, group) in groups.iter().enumerate() {
        for r in 0..R {
            let row = &rows[r].0[i * SUMS..][..SUMS];
            for n in 0..SUMS {
                sums[r][n] = multiply_add(simd, row[n], group[n], sums[r][n]);
            }
        }
    }
    for r in 0..R {
        let (row, row_rest) = rows[r];
        for (n, (a, b)) in row[groups.len() * SUMS..].iter().zip(column_last).enumerate() {
            sums[r][n] = multiply_add(simd, *a, *b, sums[r][n]);
        }
        let [a, b, c, d] = sums[r];
        let sum = simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)));
        let mut rest = 0.0;
        for (a, b) in row_rest.iter().zip(column_rest) {
            rest += a * b;
        }
        results[r] = sum + rest;
    }
    results
}

#[inline(always)]
fn write<const R: usize>(outputs: &mut [&mut [f32]], index: usize, sums: [f32; R], mode: Output) {
    for (output, sum) in outputs.iter_mut().zip(sums) {
        let value = &mut output[index];
        *value = if mode == Output::Add { *value + sum } else { sum };
    }
}
