//! Attention of one row of a batch, forward and backward, in plain loops.

use crate::simd::{add_row, add_rows, dot, exp_shifted, largest};

/// A row's tensors, with the heads of a token side by side.
pub(crate) struct RowInputs<'a> {
    /// `[sequence_length, num_attention_heads, head_dim]`.
    pub(crate) queries: &'a [f32],
    /// `[sequence_length, key_heads, head_dim]`.
    pub(crate) keys: &'a [f32],
    /// As `keys`.
    pub(crate) values: &'a [f32],
    /// `[sequence_length, head_dim / 2]`.
    pub(crate) cosines: &'a [f32],
    /// As `cosines`.
    pub(crate) sines: &'a [f32],
    /// `[sequence_length]`: a query at `t` sees the keys `t - positions[t] ..= t`.
    pub(crate) positions: &'a [u32],
    /// Key and value heads.
    pub(crate) key_heads: usize,
    /// Width of a head.
    pub(crate) head_dim: usize,
}

/// Where a row's gradients go, all zero before.
pub(crate) struct RowGradients<'a> {
    /// As the queries.
    pub(crate) queries: &'a mut [f32],
    /// As the keys.
    pub(crate) keys: &'a mut [f32],
    /// As the values.
    pub(crate) values: &'a mut [f32],
}

impl RowInputs<'_> {
    #[inline(always)]
    fn sequence_length(&self) -> usize {
        self.positions.len()
    }

    #[inline(always)]
    fn heads(&self) -> usize {
        self.queries.len() / (self.sequence_length() * self.head_dim)
    }

    /// Query heads that share a key head.
    #[inline(always)]
    fn group(&self) -> usize {
        self.heads() / self.key_heads
    }

    #[inline(always)]
    fn first_key(&self, query: usize) -> usize {
        query - (self.positions[query] as usize).min(query)
    }

    /// Where head `head` of token `token` lies among `heads` heads.
    #[inline(always)]
    fn at(&self, token: usize, head: usize, heads: usize) -> std::ops::Range<usize> {
        let start = (token * heads + head) * self.head_dim;
        start..start + self.head_dim
    }

    /// `target = scale · source`, turned by the token's angles; `direction` -1 turns back.
    #[inline(always)]
    fn rotate(&self, token: usize, source: &[f32], scale: f32, direction: f32, target: &mut [f32]) {
        let half = self.head_dim / 2;
        let (first, second) = source.split_at(half);
        let (to_first, to_second) = target.split_at_mut(half);
        let (cosines, sines) = (&self.cosines[token * half..][..half], &self.sines[token * half..][..half]);
        for i in 0..half {
            let (cosine, sine) = (scale * cosines[i], scale * direction * sines[i]);
            to_first[i] = first[i] * cosine - second[i] * sine;
            to_second[i] = second[i] * cosine + first[i] * sine;
        }
    }

    /// Every token's key of `head`, turned: `[sequence_length, head_dim]`.
    #[inline(always)]
    fn rotated_keys(&self, head: usize, target: &mut [f32]) {
        for (token, target) in target.chunks_exact_mut(self.head_dim).enumerate() {
            self.rotate(token, &self.keys[self.at(token, head, self.key_heads)], 1.0, 1.0, target);
        }
    }

    #[inline(always)]
    fn scale(&self) -> f32 {
        (self.head_dim as f32).sqrt().recip()
    }
}

/// `[rows, columns]` to `[columns, rows]`, the rows of the source being `row(i)`.
#[inline(always)]
fn transpose<'a>(rows: usize, columns: usize, row: impl Fn(usize) -> &'a [f32], target: &mut [f32]) {
    for i in 0..rows {
        for (column, value) in row(i).iter().enumerate().take(columns) {
            target[column * rows + i] = *value;
        }
    }
}

/// Writes `output` (`[sequence_length, num_attention_heads * head_dim]`) and `log_sums`
/// (`[num_attention_heads, sequence_length]`).
#[inline(always)]
pub(crate) fn attend(row: &RowInputs, output: &mut [f32], log_sums: &mut [f32]) {
    let (length, width, heads) = (row.sequence_length(), row.head_dim, row.heads());
    let (mut keys, mut transposed_keys) = (vec![0.0; length * width], vec![0.0; length * width]);
    let (mut query, mut scores) = (vec![0.0; width], vec![0.0; length]);
    for key_head in 0..row.key_heads {
        row.rotated_keys(key_head, &mut keys);
        transpose(length, width, |token| &keys[token * width..][..width], &mut transposed_keys);
        for head in key_head * row.group()..(key_head + 1) * row.group() {
            for token in 0..length {
                let first = row.first_key(token);
                row.rotate(token, &row.queries[row.at(token, head, heads)], row.scale(), 1.0, &mut query);
                let scores = &mut scores[..=token - first];
                scores.fill(0.0);
                add_rows(scores, &query, |i| &transposed_keys[i * length + first..=i * length + token]);
                let shift = largest(scores);
                let sum = exp_shifted(scores, shift);
                scores.iter_mut().for_each(|score| *score *= sum.recip());
                let output = &mut output[row.at(token, head, heads)];
                add_rows(output, scores, |key| &row.values[row.at(first + key, key_head, row.key_heads)]);
                log_sums[head * length + token] = shift + sum.ln();
            }
        }
    }
}

/// The gradients of [`attend`]. With weights `p` and `dp = dout · vᵀ`: `dscores = p · (dp - dout · out)`.
#[inline(always)]
pub(crate) fn attend_backward(
    row: &RowInputs,
    output: &[f32],
    output_gradient: &[f32],
    log_sums: &[f32],
    gradients: RowGradients,
) {
    let (length, width, heads) = (row.sequence_length(), row.head_dim, row.heads());
    let buffer = || vec![0.0; length * width];
    let (mut keys, mut transposed_keys, mut transposed_values, mut key_gradient) =
        (buffer(), buffer(), buffer(), buffer());
    let (mut query, mut query_gradient) = (vec![0.0; width], vec![0.0; width]);
    let (mut weights, mut score_gradients) = (vec![0.0; length], vec![0.0; length]);
    for key_head in 0..row.key_heads {
        row.rotated_keys(key_head, &mut keys);
        transpose(length, width, |token| &keys[token * width..][..width], &mut transposed_keys);
        let value = |token| &row.values[row.at(token, key_head, row.key_heads)];
        transpose(length, width, value, &mut transposed_values);
        key_gradient.fill(0.0);
        for head in key_head * row.group()..(key_head + 1) * row.group() {
            for token in 0..length {
                let first = row.first_key(token);
                let here = row.at(token, head, heads);
                row.rotate(token, &row.queries[here.clone()], row.scale(), 1.0, &mut query);
                let weights = &mut weights[..=token - first];
                weights.fill(0.0);
                add_rows(weights, &query, |i| &transposed_keys[i * length + first..=i * length + token]);
                exp_shifted(weights, log_sums[head * length + token]);
                let upstream = &output_gradient[here.clone()];
                let score_gradients = &mut score_gradients[..=token - first];
                score_gradients.fill(0.0);
                add_rows(score_gradients, upstream, |i| &transposed_values[i * length + first..=i * length + token]);
                let projection = dot(upstream, &output[here.clone()]);
                for (gradient, weight) in score_gradients.iter_mut().zip(&*weights) {
                    *gradient = weight * (*gradient - projection);
                }
                for (key, (weight, gradient)) in weights.iter().zip(&*score_gradients).enumerate() {
                    add_row(&mut gradients.values[row.at(first + key, key_head, row.key_heads)], *weight, upstream);
                    add_row(&mut key_gradient[(first + key) * width..][..width], *gradient, &query);
                }
                query_gradient.fill(0.0);
                add_rows(&mut query_gradient, score_gradients, |key| &keys[(first + key) * width..][..width]);
                row.rotate(token, &query_gradient, row.scale(), -1.0, &mut gradients.queries[here]);
            }
        }
        for (token, gradient) in key_gradient.chunks_exact(width).enumerate() {
            let target = &mut gradients.keys[row.at(token, key_head, row.key_heads)];
            row.rotate(token, gradient, 1.0, -1.0, target);
        }
    }
}
