//! Attention of one row of a batch as products of packed panels, a block of queries at a time.

use std::ops::Range;

use crate::attention_blocks::{Packed, blocks};
use crate::attention_heads::{Head, Heads};
use crate::gemm::{Kernel, Matrix, Output, Target, WithKernel, product, words};
use crate::level::vectorized;
use crate::simd::{exp_shifted, largest};

/// The forward pass of a row.
pub(crate) struct Attend<'a, 'b> {
    pub(crate) heads: Heads<'a>,
    /// `[sequence_length, num_attention_heads * head_dim]`, written.
    pub(crate) output: &'b mut [f32],
    /// `[num_attention_heads, sequence_length]`, written: the logarithm of the sum of the scores' exponentials.
    pub(crate) log_sums: &'b mut [f32],
}

/// What a pass needs room for.
struct Scratch {
    /// A head, turned: `[sequence_length, head_dim]`.
    turned: Vec<f32>,
    keys: Packed,
    values: Packed,
    /// Of a block's queries, a row each.
    scores: Vec<f32>,
    /// A left operand, packed.
    left: Vec<f32>,
}

impl WithKernel for Attend<'_, '_> {
    type Output = ();

    fn with_kernel(mut self, kernel: impl Kernel) {
        let (length, width) = (self.heads.sequence_length(), self.heads.layout.head_dim);
        let mut scratch = Scratch {
            turned: vec![0.0; length * width],
            keys: Packed::new(),
            values: Packed::new(),
            scores: Vec::new(),
            left: Vec::new(),
        };
        kernel.begin();
        for key_head in 0..self.heads.layout.num_key_value_heads {
            turn(&self.heads, Head::Key(key_head), &mut scratch.turned);
            scratch.keys.pack(kernel, Matrix::new(&scratch.turned, length, width, width));
            scratch.values.pack(kernel, self.heads.values(key_head).transposed());
            for head in key_head * self.heads.group()..(key_head + 1) * self.heads.group() {
                turn(&self.heads, Head::Query(head), &mut scratch.turned);
                for block in blocks(kernel, length) {
                    self.attend(kernel, head, &block, &mut scratch);
                }
            }
        }
        kernel.end();
    }
}

impl Attend<'_, '_> {
    /// One block of a head's queries.
    fn attend(&mut self, kernel: impl Kernel, head: usize, block: &Range<usize>, scratch: &mut Scratch) {
        let Scratch { turned, keys, values, scores, left } = scratch;
        let (length, width) = (self.heads.sequence_length(), self.heads.layout.head_dim);
        let output_width = self.heads.layout.num_attention_heads * width;
        let first = self.heads.first_key_of(kernel, block);
        let columns = block.end - first;
        scores.resize(block.len() * columns, 0.0);
        let queries = Matrix::new(turned, length, width, width).block(block.clone(), 0..width);
        let target = Target { values: &mut *scores, row_stride: columns, mode: Output::Replace };
        product(kernel, queries, keys.columns_from(kernel, first), columns, target, left);
        let (heads, log_sums) = (&self.heads, &mut self.log_sums[head * length..][block.clone()]);
        vectorized(
            #[inline(always)]
            || weigh(heads, block, first, scores, log_sums),
        );
        let weights = Matrix::new(scores, block.len(), columns, columns);
        let right = values.depths(kernel, first, words(kernel, columns));
        let values = &mut self.output[block.start * output_width + head * width..];
        let target = Target { values, row_stride: output_width, mode: Output::Replace };
        product(kernel, weights, right, width, target, left);
    }
}

/// [`Heads::turned`] in vector instructions.
pub(crate) fn turn(heads: &Heads<'_>, head: Head, target: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || heads.turned(head, target),
    );
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
