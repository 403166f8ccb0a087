//! Matrix products of the CPU, in the blocks of BLIS (Van Zee and van de Geijn 2015): the right operand is packed once in
//! panels that stay in the first-level cache, the left one a task at a time in panels that stay in the second, and a
//! register tile goes over both.
//!
//! The sum of an element has one order, whatever the threads: they share out rows.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod few_rows;
mod fp32;
#[cfg(target_arch = "x86_64")]
mod library;
mod matrix;
mod pack;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::available as amx_available;
pub(crate) use few_rows::each_row;
pub(crate) use fp32::{multiply_add, rounded_half};
pub(crate) use matrix::Matrix;

use rayon::prelude::*;
use std::cell::Cell;

use crate::level::{Level, level};
#[cfg(target_arch = "x86_64")]
use amx::Amx;
#[cfg(target_arch = "x86_64")]
use bf16::Avx512Bf16;
use fp32::Fp32;

/// Columns of a block, at most.
const COLUMN_BLOCK: usize = 4096;

/// Whether a product replaces what the output holds or is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Replace,
    Add,
}

/// One processor's way of packing and multiplying. A packed word is a 32-bit float, or the bits of two 16-bit ones.
pub(crate) trait Kernel: Copy + Send + Sync {
    /// Rows of a tile.
    fn rows(self) -> usize;
    /// Columns of a tile.
    fn columns(self) -> usize;
    /// Values in a packed word.
    fn values_per_word(self) -> usize;
    /// Packed words of a row in a block: with 256, a right panel of 32 columns takes 32 KiB.
    fn words_per_block(self) -> usize {
        256
    }
    /// Left panels that a task packs at once, at most: with 24 of 14 rows and 256 words, 350 KiB.
    fn panels_per_task(self) -> usize {
        24
    }
    /// Depths are packed in multiples of this many words; those that are missing are zero.
    fn word_multiple(self) -> usize {
        1
    }
    /// Packs the rows of the left operand, a tile's at a time; rows that are missing are zero.
    fn pack_left(self, left: Matrix<'_>, panels: &mut [f32]);
    /// Packs the columns of the right operand, of which it gets the transpose.
    fn pack_right(self, right: Matrix<'_>, panels: &mut [f32]);
    /// Called by a thread before its tiles.
    fn begin(self) {}
    /// Called by a thread after its tiles.
    fn end(self) {}
    /// `output = left · right` or `output += …` for one pair of panels.
    fn tile(self, left: &[f32], right: &[f32], output: &mut [f32], tile: Tile);
}

/// Words of a packed row of `depth` values.
pub(crate) fn words(kernel: impl Kernel, depth: usize) -> usize {
    depth.div_ceil(kernel.values_per_word()).next_multiple_of(kernel.word_multiple())
}

/// Where a tile lies, and how much of it counts.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) row_stride: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) output: Output,
}

/// What the inputs of a product are rounded to. Sums are 32-bit floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Nothing: 32-bit floats.
    Fp32,
    /// 16-bit brain floats, to nearest even.
    Bf16,
    /// 16-bit floats of IEEE 754, on devices that multiply them: see [`multiplies`](crate::multiplies). Their smallest is
    /// 6e-8, so gradients must not be those of a mean over many tokens. The CPU's operators round nothing to them.
    Fp16,
}

/// Something that is done with a kernel.
pub(crate) trait WithKernel {
    type Output;

    fn with_kernel(self, kernel: impl Kernel) -> Self::Output;
}

/// Runs `operation` with the kernel of `precision` on this processor.
pub(crate) fn with_kernel<Operation: WithKernel>(precision: Precision, operation: Operation) -> Operation::Output {
    with_kernel_of(level(), precision, operation)
}

fn with_kernel_of<Operation: WithKernel>(
    level: Level,
    precision: Precision,
    operation: Operation,
) -> Operation::Output {
    match (precision, level) {
        #[cfg(target_arch = "x86_64")]
        (Precision::Bf16, Level::Amx(_)) => operation.with_kernel(Amx),
        #[cfg(target_arch = "x86_64")]
        (Precision::Bf16, Level::Avx512Bf16(simd)) => operation.with_kernel(Avx512Bf16(simd)),
        (Precision::Bf16, level) => operation.with_kernel(Fp32 { level, rounded: true }),
        (Precision::Fp32 | Precision::Fp16, level) => operation.with_kernel(Fp32 { level, rounded: false }),
    }
}

/// `output = left · right`, or `output += left · right`, on all threads.
///
/// # Shapes
/// - `left`: `[m, k]`, `right`: `[k, n]`
/// - `output`: `m` rows of `n` values, one every `row_stride`
pub(crate) fn multiply(
    precision: Precision,
    left: Matrix<'_>,
    right: Matrix<'_>,
    output: &mut [f32],
    row_stride: usize,
    mode: Output,
) {
    multiply_side_by_side(precision, left, &[right], output, row_stride, mode);
}

/// [`multiply`] by several matrices, whose products lie side by side in the rows of the output.
pub(crate) fn multiply_side_by_side(
    precision: Precision,
    left: Matrix<'_>,
    rights: &[Matrix<'_>],
    output: &mut [f32],
    row_stride: usize,
    mode: Output,
) {
    if precision == Precision::Fp32 && left.rows <= few_rows::ROWS && rights.iter().all(|right| right.row_stride == 1) {
        return few_rows::multiply(left, rights, output, row_stride, mode);
    }
    let mut column = 0;
    for right in rights.iter().copied() {
        let output = &mut output[column..];
        match (precision, level()) {
            #[cfg(target_arch = "x86_64")]
            (Precision::Fp32, Level::Amx(_) | Level::Avx512Bf16(_) | Level::Avx512(_)) => {
                library::multiply(left, right, output, row_stride, mode);
            }
            _ => with_kernel(precision, Blocks { left, right, output, row_stride, mode }),
        }
        column += right.columns;
    }
}

struct Blocks<'a, 'b> {
    left: Matrix<'a>,
    right: Matrix<'a>,
    output: &'b mut [f32],
    row_stride: usize,
    mode: Output,
}

impl WithKernel for Blocks<'_, '_> {
    type Output = ();

    fn with_kernel(self, kernel: impl Kernel) {
        let Self { left, right, output, row_stride, mode } = self;
        blocks(kernel, left, right, output, row_stride, mode);
    }
}

fn blocks(
    kernel: impl Kernel,
    left: Matrix<'_>,
    right: Matrix<'_>,
    output: &mut [f32],
    row_stride: usize,
    mode: Output,
) {
    assert_eq!(left.columns, right.rows, "inner dimensions");
    if left.rows == 0 || right.columns == 0 {
        return;
    }
    if left.columns == 0 && mode == Output::Replace {
        output.chunks_mut(row_stride).for_each(|row| row[..right.columns].fill(0.0));
    }
    let mut packed = PACKED.take();
    for columns in ranges(right.columns, COLUMN_BLOCK) {
        for (index, depth) in ranges(left.columns, kernel.words_per_block() * kernel.values_per_word()).enumerate() {
            let block = right.block(depth.clone(), columns.clone());
            let panels = pack_right(kernel, block, &mut packed);
            let mode = if index == 0 { mode } else { Output::Add };
            let left = left.block(0..left.rows, depth);
            multiply_block(kernel, left, panels, columns.len(), &mut output[columns.start..], row_stride, mode);
        }
    }
    PACKED.set(packed);
}

thread_local! {
    /// The buffer of packed panels, taken while in use: a thread that waits may begin another product.
    static PACKED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

fn pack_right<'a>(kernel: impl Kernel, right: Matrix<'_>, buffer: &'a mut Vec<f32>) -> &'a [f32] {
    let width = kernel.columns();
    let panel = width * words(kernel, right.rows);
    let panels = room(buffer, right.columns.div_ceil(width) * panel);
    let right = right.transposed();
    panels.par_chunks_mut(4 * panel).enumerate().for_each(|(index, panels)| {
        let first = index * 4 * width;
        let rows = first..(first + 4 * width).min(right.rows);
        kernel.pack_right(right.block(rows, 0..right.columns), panels);
    });
    panels
}

/// `length` values at the start of a cache line.
pub(crate) fn room(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length + 16 {
        buffer.resize(length + 16, 0.0);
    }
    let start = buffer.as_ptr().align_offset(64).min(16);
    &mut buffer[start..start + length]
}

fn multiply_block(
    kernel: impl Kernel,
    left: Matrix<'_>,
    right: &[f32],
    columns: usize,
    output: &mut [f32],
    row_stride: usize,
    mode: Output,
) {
    let panels = left.rows.div_ceil(kernel.rows());
    let tasks = panels.div_ceil(kernel.panels_per_task()).next_multiple_of(rayon::current_num_threads());
    let rows = panels.div_ceil(tasks) * kernel.rows();
    output.par_chunks_mut(rows * row_stride).take(left.rows.div_ceil(rows)).enumerate().for_each(|(index, output)| {
        let left = left.block(index * rows..((index + 1) * rows).min(left.rows), 0..left.columns);
        let mut buffer = PACKED.take();
        multiply_task(kernel, left, right, columns, Target { values: output, row_stride, mode }, &mut buffer);
        PACKED.set(buffer);
    });
}

/// A task's rows: packed, then multiplied.
fn multiply_task(
    kernel: impl Kernel,
    left: Matrix<'_>,
    right: &[f32],
    columns: usize,
    output: Target<'_>,
    buffer: &mut Vec<f32>,
) {
    let right = right.chunks_exact(kernel.columns() * words(kernel, left.columns));
    kernel.begin();
    product(kernel, left, right, columns, output, buffer);
    kernel.end();
}

/// `output = left · right` with the panels that `right` says, between a kernel's `begin` and `end`.
pub(crate) fn product<'a>(
    kernel: impl Kernel,
    left: Matrix<'_>,
    right: impl Iterator<Item = &'a [f32]>,
    columns: usize,
    output: Target<'_>,
    buffer: &mut Vec<f32>,
) {
    let row_length = words(kernel, left.columns);
    let panels = room(buffer, left.rows.next_multiple_of(kernel.rows()) * row_length);
    kernel.pack_left(left, panels);
    let count = columns.div_ceil(kernel.columns());
    multiply_panels(kernel, row_length, panels, right.take(count), [left.rows, columns], output);
}

/// Where a product goes.
pub(crate) struct Target<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) row_stride: usize,
    pub(crate) mode: Output,
}

/// The product of packed panels of `row_length` words a row, of size `[rows, columns]`.
fn multiply_panels<'a>(
    kernel: impl Kernel,
    row_length: usize,
    left: &[f32],
    right: impl Iterator<Item = &'a [f32]>,
    [rows, columns]: [usize; 2],
    target: Target<'_>,
) {
    let (height, width) = (kernel.rows(), kernel.columns());
    for (j, right) in right.enumerate() {
        for (i, left) in left.chunks_exact(height * row_length).enumerate() {
            let tile = Tile {
                row_stride: target.row_stride,
                rows: height.min(rows - i * height),
                columns: width.min(columns - j * width),
                output: target.mode,
            };
            kernel.tile(left, right, &mut target.values[i * height * target.row_stride + j * width..], tile);
        }
    }
}

fn ranges(end: usize, step: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..end).step_by(step).map(move |start| start..(start + step).min(end))
}

/// Products of one pair of panels, over and over: as fast as a kernel gets.
pub(crate) struct Tiles {
    pub(crate) repetitions: usize,
}

impl WithKernel for Tiles {
    /// The multiplications and additions that were carried out.
    type Output = usize;

    fn with_kernel(self, kernel: impl Kernel) -> usize {
        /// Words of a row: a pair of panels takes half of the first-level cache, or less.
        const WORDS: usize = 96;
        let (rows, columns, depth) = (kernel.rows(), kernel.columns(), WORDS * kernel.values_per_word());
        let values = vec![0.5; rows.max(columns) * depth];
        let (mut left, mut right, mut output) = (Vec::new(), Vec::new(), vec![0.0; rows * columns]);
        let left = room(&mut left, rows * words(kernel, depth));
        kernel.pack_left(Matrix::new(&values, rows, depth, depth), left);
        let right = room(&mut right, columns * words(kernel, depth));
        kernel.pack_right(Matrix::new(&values, columns, depth, depth), right);
        kernel.begin();
        for _ in 0..self.repetitions {
            let tile = Tile { row_stride: columns, rows, columns, output: Output::Replace };
            kernel.tile(left, right, &mut output, tile);
        }
        kernel.end();
        std::hint::black_box(output);
        2 * rows * columns * depth * self.repetitions
    }
}

#[cfg(test)]
mod tests;
