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
/// Columns whose sums are under way at once, so that an addition need not wait for the one before.
const COLUMNS: usize = 4;

/// See [`super::multiply`]; the columns of `right` are contiguous.
pub(super) fn multiply(left: Matrix<'_>, right: Matrix<'_>, output: &mut [f32], row_stride: usize, mode: Output) {
    assert_eq!(left.columns, right.rows, "inner dimensions");
    let (depth, columns) = (right.rows, right.columns);
    if columns == 0 || left.rows == 0 {
        return;
    }
    let task = VALUES_PER_TASK.div_ceil(depth.max(1)).next_multiple_of(COLUMNS);
    let rows: Vec<Vec<f32>> = (0..left.rows).map(|row| (0..depth).map(|i| left.value(row, i)).collect()).collect();
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let mut parts: Vec<_> =
        output.chunks_mut(row_stride).take(left.rows).map(|row| row[..columns].chunks_mut(task)).collect();
    let tasks: Vec<Vec<&mut [f32]>> =
        (0..columns.div_ceil(task)).map(|_| parts.iter_mut().filter_map(Iterator::next).collect()).collect();
    tasks.into_par_iter().enumerate().for_each(|(index, mut outputs)| {
        level().run(Columns { rows: &rows, right, first: index * task, outputs: &mut outputs, mode });
    });
}

struct Columns<'a, 'b, 'c> {
    rows: &'a [&'a [f32]],
    right: Matrix<'a>,
    first: usize,
    /// The task's columns of each row.
    outputs: &'b mut [&'c mut [f32]],
    mode: Output,
}

impl WithSimd for Columns<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, right, first, outputs, mode } = self;
        let width = outputs.first().map_or(0, |output| output.len());
        let column = |index: usize| &right.from(0, first + index)[..right.rows];
        for start in (0..width / COLUMNS * COLUMNS).step_by(COLUMNS) {
            let columns = std::array::from_fn(|i| column(start + i));
            each_row::<S, COLUMNS>(simd, rows, columns, outputs, start, mode);
        }
        for start in width / COLUMNS * COLUMNS..width {
            each_row(simd, rows, [column(start)], outputs, start, mode);
        }
    }
}

/// The sums of some columns for all rows, as many rows at once as there are registers for.
#[inline(always)]
fn each_row<S: Simd, const N: usize>(
    simd: S,
    rows: &[&[f32]],
    columns: [&[f32]; N],
    outputs: &mut [&mut [f32]],
    start: usize,
    mode: Output,
) {
    let mut done = 0;
    if S::REGISTER_COUNT >= 32 {
        for rows in rows.as_chunks::<4>().0 {
            write(&mut outputs[done..], start, &sums(simd, *rows, columns), mode);
            done += 4;
        }
    }
    for rows in rows[done..].as_chunks::<2>().0 {
        write(&mut outputs[done..], start, &sums(simd, *rows, columns), mode);
        done += 2;
    }
    for row in &rows[done..] {
        write(&mut outputs[done..], start, &sums(simd, [*row], columns), mode);
    }
}

/// `Σ row · column` for each row and column, in a register each.
#[inline(always)]
fn sums<S: Simd, const R: usize, const N: usize>(simd: S, rows: [&[f32]; R], columns: [&[f32]; N]) -> [[f32; N]; R] {
    let rows = rows.map(|row| S::as_simd_f32s(row));
    let columns = columns.map(|column| S::as_simd_f32s(column));
    let mut sums = [[simd.splat_f32s(0.0); N]; R];
    for i in 0..rows[0].0.len() {
        for r in 0..R {
            for n in 0..N {
                sums[r][n] = multiply_add(simd, rows[r].0[i], columns[n].0[i], sums[r][n]);
            }
        }
    }
    std::array::from_fn(|r| {
        std::array::from_fn(|n| {
            let rest: f32 = rows[r].1.iter().zip(columns[n].1).map(|(a, b)| a * b).sum();
            simd.reduce_sum_f32s(sums[r][n]) + rest
        })
    })
}

#[inline(always)]
fn write<const N: usize>(outputs: &mut [&mut [f32]], start: usize, sums: &[[f32; N]], mode: Output) {
    for (output, sums) in outputs.iter_mut().zip(sums) {
        for (value, sum) in output[start..].iter_mut().zip(sums) {
            *value = if mode == Output::Add { *value + sum } else { *sum };
        }
    }
}
