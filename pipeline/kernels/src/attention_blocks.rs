//! Attention of one row of a batch as products of packed panels, a block of queries at a time.

use std::ops::Range;

use crate::attention_heads::{Head, Heads};
use crate::gemm::{Kernel, Matrix, Output, Target, WithKernel, multiply_panels, room, words};
use crate::level::vectorized;
use crate::simd::{dot, exp_shifted, largest};

/// Queries of a block, about: a multiple of a tile's rows.
const QUERIES_PER_BLOCK: usize = 64;

/// The forward pass of a row.
pub(crate) struct Attend<'a, 'b> {
    pub(crate) heads: Heads<'a>,
    /// `[sequence_length, num_attention_heads * head_dim]`, written.
    pub(crate) output: &'b mut [f32],
    /// `[num_attention_heads, sequence_length]`, written: the logarithm of the sum of the scores' exponentials.
    pub(crate) log_sums: &'b mut [f32],
}

/// The backward pass of a row. With weights `p` and `dp = dout · vᵀ`: `dscores = p · (dp - dout · out)`.
pub(crate) struct AttendBackward<'a, 'b> {
    pub(crate) heads: Heads<'a>,
    /// As [`Attend`] wrote it.
    pub(crate) output: &'a [f32],
    /// As `output`.
    pub(crate) output_gradient: &'a [f32],
    /// As [`Attend`] wrote it.
    pub(crate) log_sums: &'a [f32],
    /// As [`Heads::projected`], written.
    pub(crate) gradient: &'b mut [f32],
}

/// The right operand of products, packed: `panels` of `row_length` words a row.
struct Packed {
    buffer: Vec<f32>,
    start: usize,
    panel: usize,
}

impl Packed {
    fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, panel: 1 }
    }

    /// Packs a right operand, of which it gets the transpose.
    fn pack(&mut self, kernel: impl Kernel, right: Matrix<'_>) {
        self.panel = kernel.columns() * words(kernel, right.columns);
        let length = right.rows.div_ceil(kernel.columns()) * self.panel;
        let panels = room(&mut self.buffer, length);
        kernel.pack_right(right, panels);
        let start = panels.as_ptr();
        self.start = (start as usize - self.buffer.as_ptr() as usize) / size_of::<f32>();
    }

    fn panels(&self) -> impl Iterator<Item = &[f32]> {
        self.buffer[self.start..].chunks_exact(self.panel)
    }

    /// The panels of the columns from `first` on, a multiple of a panel's columns.
    fn columns_from(&self, kernel: impl Kernel, first: usize) -> impl Iterator<Item = &[f32]> {
        self.panels().skip(first / kernel.columns())
    }

    /// All panels, cut to `row_length` words from the depth `first` on, a multiple of a panel's columns.
    fn depths(&self, kernel: impl Kernel, first: usize, row_length: usize) -> impl Iterator<Item = &[f32]> {
        let start = first / kernel.values_per_word() * kernel.columns();
        self.panels().map(move |panel| &panel[start..start + row_length * kernel.columns()])
    }
}

/// `output = left · right` with the panels that `right` says.
fn product<'a>(
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

/// The blocks of a row's queries.
fn blocks(kernel: impl Kernel, sequence_length: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (QUERIES_PER_BLOCK / kernel.rows()).max(1) * kernel.rows();
    (0..sequence_length).step_by(size).map(move |start| start..(start + size).min(sequence_length))
}

impl Heads<'_> {
    /// The first key that a block of queries reads: segments follow one another, so no later query sees an earlier key.
    fn first_key_of(&self, kernel: impl Kernel, queries: &Range<usize>) -> usize {
        self.first_key(queries.start) / kernel.columns() * kernel.columns()
    }

    fn values(&self, key_head: usize) -> Matrix<'_> {
        let values = &self.projected[self.value_column(key_head)..];
        Matrix::new(values, self.sequence_length(), self.layout.head_dim, self.width())
    }
}

impl WithKernel for Attend<'_, '_> {
    type Output = ();

    fn with_kernel(self, kernel: impl Kernel) {
        let Self { heads, output, log_sums } = self;
        let (length, width) = (heads.sequence_length(), heads.layout.head_dim);
        let output_width = heads.layout.num_attention_heads * width;
        let (mut turned, mut scores, mut buffer) = (vec![0.0; length * width], Vec::new(), Vec::new());
        let (mut packed_keys, mut packed_values) = (Packed::new(), Packed::new());
        kernel.begin();
        for key_head in 0..heads.layout.num_key_value_heads {
            vectorized(
                #[inline(always)]
                || heads.turned(Head::Key(key_head), &mut turned),
            );
            packed_keys.pack(kernel, Matrix::new(&turned, length, width, width));
            packed_values.pack(kernel, heads.values(key_head).transposed());
            for head in key_head * heads.group()..(key_head + 1) * heads.group() {
                vectorized(
                    #[inline(always)]
                    || heads.turned(Head::Query(head), &mut turned),
                );
                let queries = Matrix::new(&turned, length, width, width);
                for block in blocks(kernel, length) {
                    let first = heads.first_key_of(kernel, &block);
                    let columns = block.end - first;
                    scores.resize(block.len() * columns, 0.0);
                    let right = packed_keys.columns_from(kernel, first);
                    let target = Target { values: &mut scores, row_stride: columns, mode: Output::Replace };
                    product(kernel, queries.block(block.clone(), 0..width), right, columns, target, &mut buffer);
                    let log_sums = &mut log_sums[head * length..][block.clone()];
                    vectorized(
                        #[inline(always)]
                        || weigh(&heads, &block, first, &mut scores, log_sums),
                    );
                    let weights = Matrix::new(&scores, block.len(), columns, columns);
                    let right = packed_values.depths(kernel, first, words(kernel, columns));
                    let values = &mut output[block.start * output_width + head * width..];
                    let target = Target { values, row_stride: output_width, mode: Output::Replace };
                    product(kernel, weights, right, width, target, &mut buffer);
                }
            }
        }
        kernel.end();
    }
}

/// Scores of a block's queries become weights; keys that a query does not see get none.
#[inline(always)]
fn weigh(heads: &Heads<'_>, block: &Range<usize>, first: usize, scores: &mut [f32], log_sums: &mut [f32]) {
    let columns = block.end - first;
    for ((query, row), log_sum) in block.clone().zip(scores.chunks_exact_mut(columns)).zip(log_sums) {
        let visible = heads.first_key(query) - first..query + 1 - first;
        row[..visible.start].fill(0.0);
        row[visible.end..].fill(0.0);
        let weights = &mut row[visible];
        let shift = largest(weights);
        let sum = exp_shifted(weights, shift);
        let factor = sum.recip();
        weights.iter_mut().for_each(|weight| *weight *= factor);
        *log_sum = shift + sum.ln();
    }
}

impl WithKernel for AttendBackward<'_, '_> {
    /// Gradients of the weights of the queries' norm and of the keys'.
    type Output = [Vec<f32>; 2];

    fn with_kernel(self, kernel: impl Kernel) -> [Vec<f32>; 2] {
        let Self { heads, output, output_gradient, log_sums, gradient } = self;
        let (length, width) = (heads.sequence_length(), heads.layout.head_dim);
        let output_width = heads.layout.num_attention_heads * width;
        let buffers = || vec![0.0; length * width];
        let (mut turned_keys, mut turned, mut query_gradient) = (buffers(), buffers(), buffers());
        let (mut key_gradient, mut value_gradient) = (buffers(), buffers());
        let (mut weights, mut score_gradients, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
        let (mut keys_across, mut keys_along, mut values_across) = (Packed::new(), Packed::new(), Packed::new());
        let mut packed_block = Packed::new();
        let mut norm_gradients = [vec![0.0; width], vec![0.0; width]];
        kernel.begin();
        for key_head in 0..heads.layout.num_key_value_heads {
            vectorized(
                #[inline(always)]
                || heads.turned(Head::Key(key_head), &mut turned_keys),
            );
            let keys = Matrix::new(&turned_keys, length, width, width);
            keys_across.pack(kernel, keys);
            keys_along.pack(kernel, keys.transposed());
            values_across.pack(kernel, heads.values(key_head));
            key_gradient.fill(0.0);
            value_gradient.fill(0.0);
            for head in key_head * heads.group()..(key_head + 1) * heads.group() {
                vectorized(
                    #[inline(always)]
                    || heads.turned(Head::Query(head), &mut turned),
                );
                let queries = Matrix::new(&turned, length, width, width);
                let upstream = Matrix::new(&output_gradient[head * width..], length, width, output_width);
                for block in blocks(kernel, length) {
                    let first = heads.first_key_of(kernel, &block);
                    let columns = block.end - first;
                    let queries = queries.block(block.clone(), 0..width);
                    let upstream = upstream.block(block.clone(), 0..width);
                    weights.resize(block.len() * columns, 0.0);
                    score_gradients.resize(block.len() * columns, 0.0);
                    let target = Target { values: &mut weights, row_stride: columns, mode: Output::Replace };
                    let right = keys_across.columns_from(kernel, first);
                    product(kernel, queries, right, columns, target, &mut buffer);
                    let target = Target { values: &mut score_gradients, row_stride: columns, mode: Output::Replace };
                    let right = values_across.columns_from(kernel, first);
                    product(kernel, upstream, right, columns, target, &mut buffer);
                    let log_sums = &log_sums[head * length..][block.clone()];
                    let rows = block.start * output_width + head * width;
                    let outputs =
                        Outputs { output: &output[rows..], gradient: &output_gradient[rows..], output_width, width };
                    vectorized(
                        #[inline(always)]
                        || weigh_backward(&heads, &block, first, &mut weights, &mut score_gradients, log_sums, outputs),
                    );
                    let [weights, score_gradients] =
                        [&weights, &score_gradients].map(|values| Matrix::new(values, block.len(), columns, columns));
                    let target = Target {
                        values: &mut query_gradient[block.start * width..],
                        row_stride: width,
                        mode: Output::Replace,
                    };
                    let right = keys_along.depths(kernel, first, words(kernel, columns));
                    product(kernel, score_gradients, right, width, target, &mut buffer);
                    packed_block.pack(kernel, upstream.transposed());
                    let target =
                        Target { values: &mut value_gradient[first * width..], row_stride: width, mode: Output::Add };
                    product(kernel, weights.transposed(), packed_block.panels(), width, target, &mut buffer);
                    packed_block.pack(kernel, queries.transposed());
                    let target =
                        Target { values: &mut key_gradient[first * width..], row_stride: width, mode: Output::Add };
                    product(kernel, score_gradients.transposed(), packed_block.panels(), width, target, &mut buffer);
                }
                let [query_norm, _] = &mut norm_gradients;
                vectorized(
                    #[inline(always)]
                    || heads.turned_backward(Head::Query(head), &mut query_gradient, gradient, query_norm),
                );
            }
            let [_, key_norm] = &mut norm_gradients;
            vectorized(
                #[inline(always)]
                || heads.turned_backward(Head::Key(key_head), &mut key_gradient, gradient, key_norm),
            );
            let targets = gradient.chunks_exact_mut(heads.width());
            for (target, value) in targets.zip(value_gradient.chunks_exact(width)) {
                target[heads.value_column(key_head)..][..width].copy_from_slice(value);
            }
        }
        kernel.end();
        norm_gradients
    }
}

/// The outputs of a head from a block's first query on, and their gradients.
struct Outputs<'a> {
    output: &'a [f32],
    gradient: &'a [f32],
    output_width: usize,
    width: usize,
}

/// Scores become weights, and the gradients of the weights those of the scores.
#[inline(always)]
fn weigh_backward(
    heads: &Heads<'_>,
    block: &Range<usize>,
    first: usize,
    weights: &mut [f32],
    gradients: &mut [f32],
    log_sums: &[f32],
    outputs: Outputs<'_>,
) {
    let columns = block.end - first;
    let rows = weights.chunks_exact_mut(columns).zip(gradients.chunks_exact_mut(columns));
    for ((i, query), (weights, gradients)) in block.clone().enumerate().zip(rows) {
        let visible = heads.first_key(query) - first..query + 1 - first;
        for row in [&mut *weights, &mut *gradients] {
            row[..visible.start].fill(0.0);
            row[visible.end..].fill(0.0);
        }
        let (weights, gradients) = (&mut weights[visible.clone()], &mut gradients[visible]);
        exp_shifted(weights, log_sums[i]);
        let place = i * outputs.output_width;
        let projection = dot(&outputs.output[place..][..outputs.width], &outputs.gradient[place..][..outputs.width]);
        for (gradient, weight) in gradients.iter_mut().zip(&*weights) {
            *gradient = weight * (*gradient - projection);
        }
    }
}
