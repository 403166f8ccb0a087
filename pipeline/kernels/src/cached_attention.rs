//! Attention over a key-value cache on the CPU: a row is a task, and each query meets the cached keys of its head where they
//! lie.

use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::attention::{HeadLayout, HeadNorms};
use crate::attention_heads::{Head, Heads, NormWeights};
use crate::flex::{last_dimension, shaped, unwritten, values};
use crate::key_value_cache::CachePlan;
use crate::level::vectorized;
use crate::profile::{Direction, Operator, timed};
use crate::simd::{dot, exp_shifted, largest};

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
            projected: &projected[skipped * projected.len() / tokens..],
            cosines: &cosines[angles.clone()],
            sines: &sines[angles],
            positions: &[],
            layout,
            norms,
        };
        let row = Row { heads, tokens: tokens - skipped, start, first, capacity };
        vectorized(
            #[inline(always)]
            || row.attend(keys, values, output),
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
    capacity: usize,
}

impl Row<'_> {
    /// # Shapes
    /// - `keys`, `values`: `[num_key_value_heads, capacity, head_dim]`
    /// - `output`: `[tokens, num_attention_heads * head_dim]`
    #[inline(always)]
    fn attend(&self, keys: &mut [f32], values: &mut [f32], output: &mut [f32]) {
        let Self { heads, tokens, start, first, capacity } = self;
        let HeadLayout { num_attention_heads, num_key_value_heads, head_dim: width } = heads.layout;
        let mut queries = vec![0.0; tokens * width];
        let mut weights = vec![0.0; start + tokens];
        for key_head in 0..num_key_value_heads {
            let place = key_head * capacity * width;
            let keys = &mut keys[place..][..(start + tokens) * width];
            let values = &mut values[place..][..(start + tokens) * width];
            heads.turned(Head::Key(key_head), &mut keys[start * width..]);
            for (token, value) in values[start * width..].chunks_exact_mut(width).enumerate() {
                let column = token * heads.width() + heads.value_column(key_head);
                value.copy_from_slice(&heads.projected[column..][..width]);
            }
            for head in key_head * heads.group()..(key_head + 1) * heads.group() {
                heads.turned(Head::Query(head), &mut queries);
                for (token, query) in queries.chunks_exact(width).enumerate() {
                    let seen = first * width..(start + token + 1) * width;
                    let weights = &mut weights[..start + token + 1 - first];
                    for (weight, key) in weights.iter_mut().zip(keys[seen.clone()].chunks_exact(width)) {
                        *weight = dot(query, key);
                    }
                    let shift = largest(weights);
                    let share = exp_shifted(weights, shift).recip();
                    let output = &mut output[(token * num_attention_heads + head) * width..][..width];
                    output.fill(0.0);
                    for (weight, value) in weights.iter().zip(values[seen].chunks_exact(width)) {
                        let weight = weight * share;
                        for i in 0..width {
                            output[i] += weight * value[i];
                        }
                    }
                }
            }
        }
    }
}

fn primitive<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    tensor.try_into_primitive::<Flex>().expect("untracked, on the flex backend").to_contiguous()
}
