//! Attention over a key-value cache on the CPU: a row is a task, and each query meets the cached keys of its head where they
//! lie.

use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::attention::{HeadLayout, HeadNorms};
use crate::attention_heads::{Head, Heads, NormWeights};
use crate::flex::{last_dimension, shaped, unwritten, values};
use crate::gemm::{Output, each_row, multiply_add};
use crate::key_value_cache::CachePlan;
use crate::level::level;
use crate::profile::{Direction, Operator, timed};
use crate::simd::{exp_shifted, largest};

/// Vectors of a value that are summed at once.
const SUMS: usize = 4;
/// Products of queries and keys for which a task is worth its while, about.
const PRODUCTS_PER_TASK: usize = 1 << 14;

/// Cosines and sines, `[positions, head_dim / 2]` each.
#[derive(Clone, Debug)]
pub(crate) struct Angles(Arc<(Vec<f32>, Vec<f32>)>);

impl Angles {
    pub(crate) fn new(cosines: Vec<f32>, sines: Vec<f32>) -> Self {
        Self(Arc::new((cosines, sines)))
    }
}

/// A layer's keys and values, `[rows, num_key_value_heads, capacity, head_dim]` each.
#[derive(Debug)]
pub(crate) struct HostCache {
    keys: Vec<f32>,
    values: Vec<f32>,
    capacity: usize,
    layout: HeadLayout,
}

impl HostCache {
    pub(crate) fn new(rows: usize, capacity: usize, layout: HeadLayout) -> Self {
        let empty = || vec![0.0; rows * layout.num_key_value_heads * capacity * layout.head_dim];
        Self { keys: empty(), values: empty(), capacity, layout }
    }

    /// Values of a row.
    fn row_size(&self) -> usize {
        self.layout.num_key_value_heads * self.capacity * self.layout.head_dim
    }

    /// See [`crate::KeyValueCache::grow`].
    pub(crate) fn grow(&mut self, capacity: usize) {
        let [old, new] = [self.capacity, capacity].map(|columns| columns * self.layout.head_dim);
        for cache in [&mut self.keys, &mut self.values] {
            let mut larger = vec![0.0; cache.len() / old * new];
            for (larger, head) in larger.chunks_mut(new).zip(cache.chunks(old)) {
                larger[..old].copy_from_slice(head);
            }
            *cache = larger;
        }
        self.capacity = capacity;
    }

    /// See [`crate::KeyValueCache::keep`].
    pub(crate) fn keep(&mut self, rows: &[usize]) {
        let size = self.row_size();
        for cache in [&mut self.keys, &mut self.values] {
            *cache = rows.iter().flat_map(|row| &cache[row * size..][..size]).copied().collect();
        }
    }

    /// See [`crate::KeyValueCache::attend`].
    pub(crate) fn attend(&mut self, projected: Tensor<3>, norms: Option<HeadNorms>, plan: &CachePlan) -> Tensor<3> {
        let (layout, capacity, size) = (self.layout, self.capacity, self.row_size());
        let caches = self.keys.chunks_mut(size).zip(self.values.chunks_mut(size));
        let mut places = Vec::with_capacity(plan.left_padding.len());
        for ((keys, values), first) in caches.zip(&plan.left_padding) {
            places.push(Place { keys, values, capacity, first: *first, plan });
        }
        attend(projected, norms, layout, places)
    }

    /// See [`crate::KeyValueCache::attend_each`].
    pub(crate) fn attend_each(
        caches: Vec<&mut Self>,
        projected: Tensor<3>,
        norms: Option<HeadNorms>,
        layout: HeadLayout,
        plans: &[CachePlan],
    ) -> Tensor<3> {
        let mut places = Vec::with_capacity(plans.len());
        for (Self { keys, values, capacity, .. }, plan) in caches.into_iter().zip(plans) {
            places.push(Place { keys, values, capacity: *capacity, first: 0, plan });
        }
        attend(projected, norms, layout, places)
    }
}

/// Where a row of a pass is kept.
struct Place<'a> {
    /// `[num_key_value_heads, capacity, head_dim]`.
    keys: &'a mut [f32],
    /// As `keys`.
    values: &'a mut [f32],
    capacity: usize,
    /// Column of the row's first token.
    first: usize,
    /// Of a pass with as many tokens as those of the other rows.
    plan: &'a CachePlan,
}

fn attend(projected: Tensor<3>, norms: Option<HeadNorms>, layout: HeadLayout, places: Vec<Place<'_>>) -> Tensor<3> {
    timed(Operator::Attention, Direction::Forward, || {
        let [rows, tokens, _] = projected.dims();
        let output = attend_rows(&primitive(projected), norms, layout, places);
        let shape = [rows, tokens, layout.num_attention_heads * layout.head_dim];
        Tensor::from_primitive::<Flex>(shaped(shape.into(), output))
    })
}

fn attend_rows(
    projected: &FlexTensor,
    norms: Option<HeadNorms>,
    layout: HeadLayout,
    places: Vec<Place<'_>>,
) -> Vec<f32> {
    let norms = norms.map(|norms| (primitive(norms.query_weight), primitive(norms.key_weight), norms.epsilon));
    let norms = norms.as_ref().map(|(query, key, epsilon)| NormWeights {
        query: values(query),
        key: values(key),
        epsilon: *epsilon,
    });
    let Some(tokens) = places.first().map(|place| place.plan.tokens) else { return Vec::new() };
    let width = layout.num_attention_heads * layout.head_dim;
    let mut output = unwritten(places.len() * tokens * width);
    let projected = values(projected).par_chunks(tokens * last_dimension(projected));
    let rows = output.par_chunks_mut(tokens * width).zip(projected).zip(places);
    rows.for_each(|((output, projected), Place { keys, values, capacity, first, plan })| {
        let half = layout.head_dim / 2;
        // What stands before the row's first token is not looked at again.
        let skipped = first.saturating_sub(plan.start).min(tokens);
        let start = plan.start + skipped;
        let (padding, output) = output.split_at_mut(skipped * width);
        padding.fill(0.0);
        let angles = start.saturating_sub(first) * half..(start + tokens - skipped).saturating_sub(first) * half;
        let (cosines, sines) = &*plan.angles.0;
        let heads = Heads {
            projected: projected[skipped * projected.len() / tokens..].into(),
            cosines: &cosines[angles.clone()],
            sines: &sines[angles],
            reach: &[],
            layout,
            norms,
        };
        let row = Row { heads, tokens: tokens - skipped, start, first };
        row.attend(
            keys.par_chunks_mut(capacity * layout.head_dim),
            values.par_chunks_mut(capacity * layout.head_dim),
            output,
        );
    });
    output
}

/// A row of a pass, without its padding.
struct Row<'a> {
    heads: Heads<'a>,
    tokens: usize,
    /// Column of its first token.
    start: usize,
    /// Column of the first token of all.
    first: usize,
}

impl Row<'_> {
    /// # Shapes
    /// - `keys`, `values`: `num_key_value_heads` of `[capacity, head_dim]`
    /// - `output`: `[tokens, num_attention_heads * head_dim]`
    fn attend<'b>(
        &self,
        keys: impl IndexedParallelIterator<Item = &'b mut [f32]>,
        values: impl IndexedParallelIterator<Item = &'b mut [f32]>,
        output: &mut [f32],
    ) {
        let HeadLayout { num_key_value_heads, head_dim, .. } = self.heads.layout;
        let group = self.heads.group() * head_dim;
        let mut outputs: Vec<Vec<&mut [f32]>> =
            (0..num_key_value_heads).map(|_| Vec::with_capacity(self.tokens)).collect();
        for token in output.chunks_exact_mut(num_key_value_heads * group) {
            outputs.iter_mut().zip(token.chunks_exact_mut(group)).for_each(|(head, token)| head.push(token));
        }
        let products = self.tokens * (self.start + self.tokens) * group;
        let heads = keys.zip(values).zip(outputs).enumerate().with_min_len(PRODUCTS_PER_TASK.div_ceil(products.max(1)));
        heads.for_each(|(key_head, ((keys, values), outputs))| {
            level().run(KeyHead { row: self, key_head, keys, values, outputs });
        });
    }
}

/// A key head of a row, with the query heads that share it.
struct KeyHead<'a, 'b> {
    row: &'a Row<'a>,
    key_head: usize,
    /// `[capacity, head_dim]`.
    keys: &'b mut [f32],
    /// As `keys`.
    values: &'b mut [f32],
    /// For each token `[query heads, head_dim]`.
    outputs: Vec<&'b mut [f32]>,
}

impl WithSimd for KeyHead<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { row: Row { heads, tokens, start, first }, key_head, keys, values, outputs } = self;
        let (width, group) = (heads.layout.head_dim, heads.group());
        heads.turned(Head::Key(key_head), &mut keys[start * width..(start + tokens) * width]);
        for (token, value) in values[start * width..].chunks_exact_mut(width).take(*tokens).enumerate() {
            let column = token * heads.width() + heads.value_column(key_head);
            value.copy_from_slice(&heads.projected[column..][..width]);
        }
        let mut queries = vec![0.0; group * tokens * width];
        for (index, queries) in queries.chunks_exact_mut(tokens * width).enumerate() {
            heads.turned(Head::Query(key_head * group + index), queries);
        }
        let mut weights = vec![0.0; group * (start + tokens - first)];
        for (token, output) in outputs.into_iter().enumerate() {
            let seen = first * width..(start + token + 1) * width;
            let (keys, values) = (&keys[seen.clone()], &values[seen]);
            let queries: Vec<&[f32]> = queries.chunks_exact(width).skip(token).step_by(*tokens).collect();
            let mut weights: Vec<&mut [f32]> = weights.chunks_exact_mut(keys.len() / width).take(group).collect();
            for (index, key) in keys.chunks_exact(width).enumerate() {
                each_row(simd, &queries, key, &mut weights, index, Output::Replace);
            }
            for (weights, output) in weights.into_iter().zip(output.chunks_exact_mut(width)) {
                let shift = largest(weights);
                let share = exp_shifted(weights, shift).recip();
                weights.iter_mut().for_each(|weight| *weight *= share);
                weighted_sum(simd, weights, values, output);
            }
        }
    }
}

/// `Σ weight · value` into `output`, which is as wide as a value.
#[inline(always)]
fn weighted_sum<S: Simd>(simd: S, weights: &[f32], values: &[f32], output: &mut [f32]) {
    let width = output.len();
    let (vectors, rest) = S::as_mut_simd_f32s(output);
    let mut column = 0;
    let (groups, last) = vectors.as_chunks_mut::<SUMS>();
    for group in groups {
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        for (weight, value) in weights.iter().zip(values.chunks_exact(width)) {
            let weight = simd.splat_f32s(*weight);
            let value = &S::as_simd_f32s(&value[column..]).0[..SUMS];
            for i in 0..SUMS {
                sums[i] = multiply_add(simd, weight, value[i], sums[i]);
            }
        }
        *group = sums;
        column += SUMS * S::F32_LANES;
    }
    for vector in last {
        let mut sum = simd.splat_f32s(0.0);
        for (weight, value) in weights.iter().zip(values.chunks_exact(width)) {
            sum = multiply_add(simd, simd.splat_f32s(*weight), S::as_simd_f32s(&value[column..]).0[0], sum);
        }
        *vector = sum;
        column += S::F32_LANES;
    }
    for (i, output) in rest.iter_mut().enumerate() {
        *output = 0.0;
        for (weight, value) in weights.iter().zip(values.chunks_exact(width)) {
            *output += weight * value[column + i];
        }
    }
}

fn primitive<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    tensor.try_into_primitive::<Flex>().expect("untracked, on the flex backend").to_contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::available;

    struct WeightedSum<'a>(&'a [f32], &'a [f32], &'a mut [f32]);

    impl WithSimd for WeightedSum<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            weighted_sum(simd, self.0, self.1, self.2);
        }
    }

    #[test]
    fn weighted_sums_have_every_column_of_every_value() {
        for width in [1, 4, 20, 64, 67, 128, 145] {
            let weights = [0.5, -1.0, 2.0];
            let values: Vec<f32> = (0..weights.len() * width).map(|i| i as f32).collect();
            // Half of a whole number under 2²⁴: any order of the sum is exact.
            let expected: Vec<f32> =
                (0..width).map(|i| (0..3).map(|row| weights[row] * values[row * width + i]).sum()).collect();
            for level in available() {
                let mut output = vec![f32::NAN; width];
                level.run(WeightedSum(&weights, &values, &mut output));
                assert_eq!(output, expected, "{width} wide");
            }
        }
    }
}
