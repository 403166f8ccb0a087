//! Packing: the rows of a panel side by side, one depth after the other.

use std::ops::Range;

use super::matrix::Matrix;

/// Rows and depths that are turned at once where the source's rows are contiguous: a cache line each way.
const BLOCK: usize = 16;

/// Packs `WIDTH` rows at a time. `turn(source, source_stride, rows, target, target_stride)` transposes `rows` x 16 values;
/// it may write past the end of a line, as long as it stays in the target.
#[inline(always)]
pub(super) fn pack<const WIDTH: usize>(
    matrix: Matrix<'_>,
    panels: &mut [f32],
    turn: impl Fn(&[f32], usize, usize, &mut [f32], usize),
) {
    for (index, panel) in panels.chunks_exact_mut(WIDTH * matrix.columns).enumerate() {
        let first = index * WIDTH;
        let block = matrix.block(first..(first + WIDTH).min(matrix.rows), 0..matrix.columns);
        if block.rows == WIDTH && block.row_stride == 1 {
            copy_lines::<WIDTH>(block, panel);
        } else if block.rows == WIDTH && block.column_stride == 1 {
            turn_lines::<WIDTH>(block, panel, &turn);
        } else {
            copy_values(block, WIDTH, panel, 0..block.columns);
        }
    }
}

/// The panel's lines are contiguous in the source.
#[inline(always)]
fn copy_lines<const WIDTH: usize>(block: Matrix<'_>, panel: &mut [f32]) {
    for (depth, line) in panel.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        *line = *block.from(0, depth).first_chunk().expect("a line of the matrix");
    }
}

/// The panel's rows are contiguous in the source.
#[inline(always)]
fn turn_lines<const WIDTH: usize>(
    block: Matrix<'_>,
    panel: &mut [f32],
    turn: &impl Fn(&[f32], usize, usize, &mut [f32], usize),
) {
    let turned = block.columns / BLOCK * BLOCK;
    for depth in (0..turned).step_by(BLOCK) {
        for row in (0..WIDTH).step_by(BLOCK) {
            let target = &mut panel[depth * WIDTH + row..];
            turn(block.from(row, depth), block.row_stride, BLOCK.min(WIDTH - row), target, WIDTH);
        }
    }
    copy_values(block, WIDTH, panel, turned..block.columns);
}

/// One value at a time; rows that are missing are zero.
#[inline(always)]
fn copy_values(block: Matrix<'_>, width: usize, panel: &mut [f32], depths: Range<usize>) {
    for depth in depths {
        for (row, value) in panel[depth * width..][..width].iter_mut().enumerate() {
            *value = if row < block.rows { block.value(row, depth) } else { 0.0 };
        }
    }
}

/// Transposes `rows` x 16 values.
#[inline(always)]
pub(super) fn turn_portably(source: &[f32], stride: usize, rows: usize, target: &mut [f32], width: usize) {
    for depth in 0..BLOCK {
        for (row, value) in target[depth * width..][..rows].iter_mut().enumerate() {
            *value = source[row * stride + depth];
        }
    }
}
