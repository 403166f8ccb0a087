//! Rotary position embedding and causal grouped-query attention that stays inside its segment.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

use crate::fused_attention::{HostPlan, fused};
use crate::gemm::Precision;
use crate::linear::matmul;
use crate::placement::{Implementation, implementation_on};
use crate::rms_norm::rms_norm;

/// Added to the scores of keys that a query must not see. `exp` of it is exactly zero, so a masked key changes no bit;
/// finite, because not every GPU's shader compiler keeps infinities.
const MASKED: f32 = -1e30;

/// Heads of one attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLayout {
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads. Query head `h` reads key head `h / (num_attention_heads / num_key_value_heads)`.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// What every layer's attention needs to know about a batch: made once, used by all layers.
#[derive(Clone, Debug)]
pub struct AttentionPlan {
    host: Arc<HostPlan>,
    /// What the composed implementation needs on its device.
    device: Option<DevicePlan>,
}

#[derive(Clone, Debug)]
struct DevicePlan {
    cosines: Tensor<4>,
    sines: Tensor<4>,
    mask: Tensor<5>,
}

impl AttentionPlan {
    /// The plan for rows of `sequence_length` tokens.
    ///
    /// # Shapes
    /// - `positions`: `[rows * sequence_length]`, each token's offset from the start of its segment. A query at `t` sees
    ///   the keys `t - positions[t] ..= t`, which is the document mask.
    ///
    /// # Panics
    /// If `positions` is not whole rows.
    pub fn new(positions: &[u32], sequence_length: usize, head_dim: usize, rope_theta: f64, device: &Device) -> Self {
        Self::with_window(positions, sequence_length, head_dim, rope_theta, None, device)
    }

    /// [`AttentionPlan::new`] with a sliding window: a query sees `window` keys at most, its own included (Beltagy et al.
    /// 2020, arXiv:2004.05150, causal as in Mistral 7B).
    ///
    /// # Panics
    /// If `positions` is not whole rows, or the window is 0.
    pub fn with_window(
        positions: &[u32],
        sequence_length: usize,
        head_dim: usize,
        rope_theta: f64,
        window: Option<usize>,
        device: &Device,
    ) -> Self {
        assert_eq!(positions.len() % sequence_length, 0, "whole rows");
        let (cosines, sines) = rotary_values(positions, head_dim, rope_theta);
        let farthest = window.map_or(u32::MAX, |window| {
            assert!(window > 0, "a query sees its own key");
            u32::try_from(window - 1).unwrap_or(u32::MAX)
        });
        let reach = positions.iter().map(|position| (*position).min(farthest)).collect();
        let host = Arc::new(HostPlan { sequence_length, reach, cosines, sines });
        let composed = implementation_on(device) == Implementation::Composed;
        let device = composed.then(|| DevicePlan::new(&host, sequence_length, head_dim, device));
        Self { host, device }
    }
}

impl DevicePlan {
    fn new(host: &HostPlan, sequence_length: usize, head_dim: usize, device: &Device) -> Self {
        let rows = host.reach.len() / sequence_length;
        let table = |values: &[f32]| {
            let shape = [rows, 1, sequence_length, head_dim / 2];
            Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
        };
        let visible = |row: usize, query: usize, key: usize| {
            let start = query - (host.reach[row * sequence_length + query] as usize).min(query);
            (start..=query).contains(&key)
        };
        let mask = causal_mask([rows, sequence_length, sequence_length], visible, device);
        Self { cosines: table(&host.cosines), sines: table(&host.sines), mask }
    }
}

/// Cosines and sines of the rotary angles `position / theta^(2i / head_dim)` (Su et al. 2021, arXiv:2104.09864, eq. 15).
///
/// # Shapes
/// - each output: `[positions, head_dim / 2]`
pub(crate) fn rotary_values(positions: &[u32], head_dim: usize, rope_theta: f64) -> (Vec<f32>, Vec<f32>) {
    let half = head_dim / 2;
    let frequencies: Vec<f64> = (0..half).map(|i| rope_theta.powf(-2.0 * i as f64 / head_dim as f64)).collect();
    let longest = positions.iter().max().map_or(0, |position| position + 1);
    let table = |of: fn(f64) -> f64| {
        let row = |position| frequencies.iter().map(move |frequency| of(f64::from(position) * frequency) as f32);
        if positions.len() <= longest as usize {
            return positions.iter().flat_map(|position| row(*position)).collect();
        }
        // A position's angles are the same wherever it stands, and sines are dear.
        let rows: Vec<f32> = (0..longest).flat_map(row).collect();
        positions.iter().flat_map(|position| rows[*position as usize * half..][..half].to_vec()).collect()
    };
    (table(f64::cos), table(f64::sin))
}

/// What is added to the scores: 0 where `visible(row, query, key)`, else so little that the weight is 0.
///
/// # Shapes
/// - `[rows, queries, keys]` gives `[rows, 1, 1, queries, keys]`
pub(crate) fn causal_mask(
    [rows, queries, keys]: [usize; 3],
    visible: impl Fn(usize, usize, usize) -> bool,
    device: &Device,
) -> Tensor<5> {
    let mut values = vec![MASKED; rows * queries * keys];
    for (i, value) in values.iter_mut().enumerate() {
        if visible(i / (queries * keys), i / keys % queries, i % keys) {
            *value = 0.0;
        }
    }
    Tensor::from_data(TensorData::new(values, [rows, 1, 1, queries, keys]), device)
}

/// Turns each head's pairs `(i, i + head_dim / 2)` by the tables' angles: Hugging Face's pairing ("rotate half"), not
/// the interleaved one of the paper.
///
/// # Shapes
/// - `heads`: `[rows, heads, tokens, head_dim]`
/// - `cosines`, `sines`: `[rows, 1, tokens, head_dim / 2]`
fn rotate_by(heads: Tensor<4>, cosines: &Tensor<4>, sines: &Tensor<4>) -> Tensor<4> {
    let half = heads.dims()[3] / 2;
    let first = heads.clone().narrow(3, 0, half);
    let second = heads.narrow(3, half, half);
    let turned_first = first.clone() * cosines.clone() - second.clone() * sines.clone();
    let turned_second = second * cosines.clone() + first * sines.clone();
    Tensor::cat(vec![turned_first, turned_second], 3)
}

/// The rotary embedding of tokens at some positions, for heads that are tensors of their own, as in generation.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    /// `[rows, 1, tokens, head_dim / 2]`.
    cosines: Tensor<4>,
    /// As `cosines`.
    sines: Tensor<4>,
}

impl Rotary {
    /// The embedding of rows of `tokens` tokens.
    ///
    /// # Shapes
    /// - `positions`: `[rows * tokens]`
    pub(crate) fn new(positions: &[u32], tokens: usize, head_dim: usize, rope_theta: f64, device: &Device) -> Self {
        let (cosines, sines) = rotary_values(positions, head_dim, rope_theta);
        let table = |values: Vec<f32>| {
            let shape = [positions.len() / tokens, 1, tokens, head_dim / 2];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        Self { cosines: table(cosines), sines: table(sines) }
    }

    /// The heads, turned.
    ///
    /// # Shapes
    /// - `heads` and output: `[rows, heads, tokens, head_dim]`
    pub(crate) fn rotate(&self, heads: Tensor<4>) -> Tensor<4> {
        rotate_by(heads, &self.cosines, &self.sines)
    }
}

/// `softmax(queries · keysᵀ / √head_dim + mask) · values` for each head; keys and values are not repeated.
///
/// # Shapes
/// - `queries`: `[rows, num_attention_heads, queries, head_dim]`
/// - `keys`, `values`: `[rows, num_key_value_heads, keys, head_dim]`
/// - `mask`: `[rows, 1, 1, queries, keys]`, see [`causal_mask`]
/// - output: `[rows, queries, num_attention_heads * head_dim]`
pub(crate) fn attention(
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    mask: Tensor<5>,
    precision: Precision,
) -> Tensor<3> {
    let [rows, heads, num_queries, head_dim] = queries.dims();
    let [_, key_heads, num_keys, _] = keys.dims();
    let group = heads / key_heads;
    let queries =
        (queries * (head_dim as f64).sqrt().recip()).reshape([rows, key_heads, group * num_queries, head_dim]);
    let scores = matmul(queries, keys.swap_dims(2, 3), precision); // [rows, key_heads, group * queries, keys]
    let scores = scores.reshape([rows, key_heads, group, num_queries, num_keys]) + mask;
    let weights = softmax(scores, 4).reshape([rows, key_heads, group * num_queries, num_keys]);
    let output = matmul(weights, values, precision).reshape([rows, heads, num_queries, head_dim]);
    output.swap_dims(1, 2).reshape([rows, num_queries, heads * head_dim])
}

/// Norms of every head's queries and keys (Henry et al. 2020, arXiv:2010.04245; as in Qwen3: RMSNorm with weights).
#[derive(Clone, Debug)]
pub struct HeadNorms {
    /// `[head_dim]`.
    pub query_weight: Tensor<1>,
    /// `[head_dim]`.
    pub key_weight: Tensor<1>,
    /// See [`rms_norm`].
    pub epsilon: f32,
}

/// Norms and rotary embedding of queries and keys, then causal attention inside each segment.
///
/// # Shapes
/// - `projected`: `[rows, sequence_length, (num_attention_heads + 2 * num_key_value_heads) * head_dim]`: the heads of the
///   queries, then those of the keys, then those of the values
/// - output: `[rows, sequence_length, num_attention_heads * head_dim]`
pub fn rotary_attention(
    projected: Tensor<3>,
    norms: Option<HeadNorms>,
    layout: HeadLayout,
    plan: &AttentionPlan,
    precision: Precision,
) -> Tensor<3> {
    match &plan.device {
        None => fused(projected, norms, layout, Arc::clone(&plan.host), precision),
        Some(plan) => {
            let [queries, keys, values] = split_heads(projected, norms, layout);
            let queries = rotate_by(queries.swap_dims(1, 2), &plan.cosines, &plan.sines);
            let keys = rotate_by(keys.swap_dims(1, 2), &plan.cosines, &plan.sines);
            attention(queries, keys, values.swap_dims(1, 2), plan.mask.clone(), precision)
        }
    }
}

/// Queries and keys with their norms, and values, before the rotary embedding: `[rows, tokens, heads, head_dim]`.
///
/// # Shapes
/// - `projected`: see [`rotary_attention`]
pub(crate) fn split_heads(projected: Tensor<3>, norms: Option<HeadNorms>, layout: HeadLayout) -> [Tensor<4>; 3] {
    let HeadLayout { num_attention_heads, num_key_value_heads, head_dim } = layout;
    let [rows, tokens, _] = projected.dims();
    let heads = |first: usize, heads: usize| {
        let part = projected.clone().narrow(2, first * head_dim, heads * head_dim);
        part.reshape([rows, tokens, heads, head_dim])
    };
    let queries = heads(0, num_attention_heads);
    let keys = heads(num_attention_heads, num_key_value_heads);
    let values = heads(num_attention_heads + num_key_value_heads, num_key_value_heads);
    match norms {
        Some(HeadNorms { query_weight, key_weight, epsilon }) => {
            [rms_norm(queries, query_weight, epsilon), rms_norm(keys, key_weight, epsilon), values]
        }
        None => [queries, keys, values],
    }
}

#[cfg(test)]
mod tests;
