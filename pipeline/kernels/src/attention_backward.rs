//! The gradients of attention of one row of a batch, in the blocks of the forward pass.

use std::ops::Range;

use crate::attention_blocks::{Packed, blocks};
use crate::attention_forward::turn;
use crate::attention_heads::{Head, Heads};
use crate::gemm::{Kernel, Matrix, Output, Target, WithKernel, product, words};
use crate::level::vectorized;
use crate::simd::{dot, exp_shifted};

/// The backward pass of a row. With weights `p` and `dp = dout · vᵀ`: `dscores = p · (dp - dout · out)`.
pub(crate) struct AttendBackward<'a, 'b> {
    pub(crate) heads: Heads<'a>,
    /// As [`crate::attention_forward::Attend`] wrote it.
    pub(crate) output: &'a [f32],
    /// As `output`.
    pub(crate) output_gradient: &'a [f32],
    /// As [`crate::attention_forward::Attend`] wrote it.
    pub(crate) log_sums: &'a [f32],
    /// As [`Heads::projected`], written.
    pub(crate) gradient: &'b mut [f32],
}

/// What a pass needs room for.
struct Scratch {
    /// The keys and the queries of a head, turned: `[sequence_length, head_dim]`.
    keys: Vec<f32>,
    queries: Vec<f32>,
    /// Their gradients and those of the values, as them.
    key_gradient: Vec<f32>,
    query_gradient: Vec<f32>,
    value_gradient: Vec<f32>,
    /// Keys and values as right operands of the scores, and keys as that of the queries' gradients.
    keys_across: Packed,
    values_across: Packed,
    keys_along: Packed,
    /// A block's queries or upstream gradients as a right operand.
    block: Packed,
    /// Of a block's queries, a row each.
    weights: Vec<f32>,
    score_gradients: Vec<f32>,
    /// A left operand, packed.
    left: Vec<f32>,
    /// Gradients of the weights of the queries' norm and of the keys'.
    norms: [Vec<f32>; 2],
}

impl Scratch {
    fn new(length: usize, width: usize) -> Self {
        let head = || vec![0.0; length * width];
        Self {
            keys: head(),
            queries: head(),
            key_gradient: head(),
            query_gradient: head(),
            value_gradient: head(),
            keys_across: Packed::new(),
            values_across: Packed::new(),
            keys_along: Packed::new(),
            block: Packed::new(),
            weights: Vec::new(),
            score_gradients: Vec::new(),
            left: Vec::new(),
            norms: [vec![0.0; width], vec![0.0; width]],
        }
    }
}

impl WithKernel for AttendBackward<'_, '_> {
    /// Gradients of the weights of the queries' norm and of the keys'.
    type Output = [Vec<f32>; 2];

    fn with_kernel(self, kernel: impl Kernel) -> [Vec<f32>; 2] {
        let mut scratch = Scratch::new(self.heads.sequence_length(), self.heads.layout.head_dim);
        kernel.begin();
        for key_head in 0..self.heads.layout.num_key_value_heads {
            self.pack_keys(kernel, key_head, &mut scratch);
            for head in key_head * self.heads.group()..(key_head + 1) * self.heads.group() {
                turn(&self.heads, Head::Query(head), &mut scratch.queries);
                for block in blocks(kernel, self.heads.sequence_length()) {
                    self.scores(kernel, head, &block, &mut scratch);
                    self.gradients(kernel, head, &block, &mut scratch);
                }
                let (upstream, norm) = (&mut scratch.query_gradient, &mut scratch.norms[0]);
                turn_back(&self.heads, Head::Query(head), upstream, self.gradient, norm);
            }
            let (upstream, norm) = (&mut scratch.key_gradient, &mut scratch.norms[1]);
            turn_back(&self.heads, Head::Key(key_head), upstream, self.gradient, norm);
            let (column, width) = (self.heads.value_column(key_head), self.heads.layout.head_dim);
            let targets = self.gradient.chunks_exact_mut(self.heads.width());
            for (target, value) in targets.zip(scratch.value_gradient.chunks_exact(width)) {
                target[column..][..width].copy_from_slice(value);
            }
        }
        kernel.end();
        scratch.norms
    }
}

impl AttendBackward<'_, '_> {
    /// The upstream gradient of a head: `[sequence_length, head_dim]`.
    fn upstream(&self, head: usize) -> Matrix<'_> {
        let width = self.heads.layout.head_dim;
        let values = &self.output_gradient[head * width..];
        Matrix::new(values, self.heads.sequence_length(), width, self.heads.layout.num_attention_heads * width)
    }

    fn pack_keys(&self, kernel: impl Kernel, key_head: usize, scratch: &mut Scratch) {
        let (length, width) = (self.heads.sequence_length(), self.heads.layout.head_dim);
        turn(&self.heads, Head::Key(key_head), &mut scratch.keys);
        let keys = Matrix::new(&scratch.keys, length, width, width);
        scratch.keys_across.pack(kernel, keys);
        scratch.keys_along.pack(kernel, keys.transposed());
        scratch.values_across.pack(kernel, self.heads.values(key_head));
        scratch.key_gradient.fill(0.0);
        scratch.value_gradient.fill(0.0);
    }

    /// The weights of a block's queries and the gradients of their scores.
    fn scores(&self, kernel: impl Kernel, head: usize, block: &Range<usize>, scratch: &mut Scratch) {
        let Scratch { queries, keys_across, values_across, weights, score_gradients, left, .. } = scratch;
        let (length, width) = (self.heads.sequence_length(), self.heads.layout.head_dim);
        let output_width = self.heads.layout.num_attention_heads * width;
        let first = self.heads.first_key_of(kernel, block);
        let columns = block.end - first;
        weights.resize(block.len() * columns, 0.0);
        score_gradients.resize(block.len() * columns, 0.0);
        let queries = Matrix::new(queries, length, width, width).block(block.clone(), 0..width);
        let target = Target { values: &mut *weights, row_stride: columns, mode: Output::Replace };
        product(kernel, queries, keys_across.columns_from(kernel, first), columns, target, left);
        let upstream = self.upstream(head).block(block.clone(), 0..width);
        let target = Target { values: &mut *score_gradients, row_stride: columns, mode: Output::Replace };
        product(kernel, upstream, values_across.columns_from(kernel, first), columns, target, left);
        let log_sums = &self.log_sums[head * length..][block.clone()];
        let place = block.start * output_width + head * width;
        let (output, gradient) = (&self.output[place..], &self.output_gradient[place..]);
        let outputs = Outputs { output, gradient, output_width, width };
        vectorized(
            #[inline(always)]
            || weigh_backward(&self.heads, block, first, weights, score_gradients, log_sums, outputs),
        );
    }

    /// What a block's queries give to the gradients of queries, keys and values.
    fn gradients(&self, kernel: impl Kernel, head: usize, block: &Range<usize>, scratch: &mut Scratch) {
        let Scratch { queries, query_gradient, key_gradient, value_gradient, left, .. } = scratch;
        let (length, width) = (self.heads.sequence_length(), self.heads.layout.head_dim);
        let first = self.heads.first_key_of(kernel, block);
        let columns = block.end - first;
        let [weights, score_gradients] = [&scratch.weights, &scratch.score_gradients]
            .map(|values| Matrix::new(values, block.len(), columns, columns));
        let target = |values, mode| Target { values, row_stride: width, mode };
        let right = scratch.keys_along.depths(kernel, first, words(kernel, columns));
        let rows = target(&mut query_gradient[block.start * width..], Output::Replace);
        product(kernel, score_gradients, right, width, rows, left);
        let right = &mut scratch.block;
        right.pack(kernel, self.upstream(head).block(block.clone(), 0..width).transposed());
        let rows = target(&mut value_gradient[first * width..], Output::Add);
        product(kernel, weights.transposed(), right.panels(), width, rows, left);
        let queries = Matrix::new(queries, length, width, width).block(block.clone(), 0..width);
        right.pack(kernel, queries.transposed());
        let rows = target(&mut key_gradient[first * width..], Output::Add);
        product(kernel, score_gradients.transposed(), right.panels(), width, rows, left);
    }
}

/// [`Heads::turned_backward`] in vector instructions.
fn turn_back(heads: &Heads<'_>, head: Head, upstream: &mut [f32], gradient: &mut [f32], norm: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || heads.turned_backward(head, upstream, gradient, norm),
    );
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
