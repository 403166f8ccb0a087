//! Keys and values of what a generation has read, and attention over them.

use burn::tensor::{Device, Tensor};

use crate::attention::{HeadLayout, HeadNorms, Rotary, attention, causal_mask, rotary_values, split_heads};
use crate::cached_attention::{Angles, HostCache};
use crate::gemm::Precision;
use crate::placement::{Implementation, implementation_on};

/// Where the tokens of one forward pass stand: made once, used by all layers. Rows are aligned at their ends: row `i` starts
/// at column `left_padding[i]`.
#[derive(Debug)]
pub struct CachePlan {
    /// First column of each row.
    pub(crate) left_padding: Vec<usize>,
    /// First column of the pass.
    pub(crate) start: usize,
    /// Columns of the pass.
    pub(crate) tokens: usize,
    pub(crate) angles: Angles,
    /// What the composed implementation needs on its device.
    device: Option<(Rotary, Tensor<5>)>,
}

/// The rotary angles of every position of a cache.
#[derive(Clone, Debug)]
pub struct CacheAngles {
    host: Angles,
    head_dim: usize,
    rope_theta: f64,
    device: Device,
}

impl CacheAngles {
    /// For `capacity` positions.
    pub fn new(capacity: usize, head_dim: usize, rope_theta: f64, device: &Device) -> Self {
        let positions: Vec<u32> = (0..capacity as u32).collect();
        let (cosines, sines) = rotary_values(&positions, head_dim, rope_theta);
        Self { host: Angles::new(cosines, sines), head_dim, rope_theta, device: device.clone() }
    }
}

impl CachePlan {
    /// The plan of a pass over the `tokens` columns from `start` on.
    pub fn new(left_padding: &[usize], start: usize, tokens: usize, angles: &CacheAngles) -> Self {
        let CacheAngles { head_dim, rope_theta, device, .. } = angles;
        let composed = implementation_on(device) == Implementation::Composed;
        let device = composed.then(|| {
            let places = |padding: &usize| {
                let padding = *padding;
                (start..start + tokens).map(move |column| column.saturating_sub(padding) as u32)
            };
            let positions: Vec<u32> = left_padding.iter().flat_map(places).collect();
            let visible = |row: usize, query: usize, key: usize| (left_padding[row]..=start + query).contains(&key);
            let mask = causal_mask([left_padding.len(), tokens, start + tokens], visible, device);
            (Rotary::new(&positions, tokens, *head_dim, *rope_theta, device), mask)
        });
        Self { left_padding: left_padding.to_vec(), start, tokens, angles: angles.host.clone(), device }
    }
}

/// One layer's keys, after norm and rotary embedding, and values: allocated once.
#[derive(Debug)]
pub struct KeyValueCache(Buffers);

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each layer")]
enum Buffers {
    Host(HostCache),
    /// `[rows, num_key_value_heads, capacity, head_dim]` each.
    Device {
        keys: Tensor<4>,
        values: Tensor<4>,
    },
}

impl KeyValueCache {
    /// An empty cache of `capacity` columns.
    pub fn new(rows: usize, capacity: usize, layout: HeadLayout, device: &Device) -> Self {
        Self(match implementation_on(device) {
            Implementation::Fused => Buffers::Host(HostCache::new(rows, capacity, layout)),
            Implementation::Composed => {
                let shape = [rows, layout.num_key_value_heads, capacity, layout.head_dim];
                Buffers::Device { keys: Tensor::zeros(shape, device), values: Tensor::zeros(shape, device) }
            }
        })
    }

    /// Norms and rotary embedding of the pass's heads, which are stored, and their attention over what is there. Without
    /// gradients.
    ///
    /// # Shapes
    /// - `projected`: `[rows, tokens, (num_attention_heads + 2 * num_key_value_heads) * head_dim]`, see
    ///   [`rotary_attention`](crate::rotary_attention)
    /// - output: `[rows, tokens, num_attention_heads * head_dim]`; of padding, anything finite
    pub fn attend(
        &mut self,
        projected: Tensor<3>,
        norms: Option<HeadNorms>,
        layout: HeadLayout,
        plan: &CachePlan,
    ) -> Tensor<3> {
        match (&mut self.0, &plan.device) {
            (Buffers::Host(cache), _) => cache.attend(projected, norms, plan),
            (Buffers::Device { keys, values }, Some((rotary, mask))) => {
                let [queries, new_keys, new_values] = split_heads(projected, norms, layout);
                let queries = rotary.rotate(queries.swap_dims(1, 2));
                let keys = append(keys, rotary.rotate(new_keys.swap_dims(1, 2)), plan.start);
                let values = append(values, new_values.swap_dims(1, 2), plan.start);
                attention(queries, keys, values, mask.clone(), Precision::Fp32)
            }
            (Buffers::Device { .. }, None) => unreachable!("cache and plan are of one device"),
        }
    }

    /// [`KeyValueCache::attend`] for rows that are each kept in a cache of their own, of one row without padding: such as
    /// were begun at different times. All passes have as many tokens. A row's output has the bits that it has alone.
    ///
    /// # Shapes
    /// As [`KeyValueCache::attend`], a row for each of `caches` and `plans`
    pub fn attend_each(
        caches: Vec<&mut Self>,
        projected: Tensor<3>,
        norms: Option<HeadNorms>,
        layout: HeadLayout,
        plans: &[CachePlan],
    ) -> Tensor<3> {
        assert_eq!([caches.len(), plans.len()], [projected.dims()[0]; 2], "a cache and a plan for each row");
        if implementation_on(&projected.device()) == Implementation::Fused {
            let caches = caches.into_iter().filter_map(Self::host).collect();
            return HostCache::attend_each(caches, projected, norms, layout, plans);
        }
        let rows = caches.into_iter().zip(plans).enumerate();
        let attend = |(row, (cache, plan)): (usize, (&mut Self, &CachePlan))| {
            cache.attend(projected.clone().narrow(0, row, 1), norms.clone(), layout, plan)
        };
        Tensor::cat(rows.map(attend).collect(), 0)
    }

    /// Makes room for `capacity` columns in all, no fewer than there are. What it holds is copied.
    pub fn grow(&mut self, capacity: usize) {
        match &mut self.0 {
            Buffers::Host(cache) => cache.grow(capacity),
            Buffers::Device { keys, values } => {
                for cache in [keys, values] {
                    let [rows, heads, columns, head_dim] = cache.dims();
                    let larger = Tensor::zeros([rows, heads, capacity, head_dim], &cache.device());
                    *cache = larger.slice_assign([0..rows, 0..heads, 0..columns, 0..head_dim], cache.clone());
                }
            }
        }
    }

    fn host(&mut self) -> Option<&mut HostCache> {
        match &mut self.0 {
            Buffers::Host(cache) => Some(cache),
            Buffers::Device { .. } => None,
        }
    }

    /// Goes on with these rows alone.
    pub fn keep(&mut self, rows: &[usize]) {
        match &mut self.0 {
            Buffers::Host(cache) => cache.keep(rows),
            Buffers::Device { keys, values } => {
                for cache in [keys, values] {
                    let kept = rows.iter().map(|row| cache.clone().narrow(0, *row, 1)).collect();
                    *cache = Tensor::cat(kept, 0);
                }
            }
        }
    }
}

/// Stores the new columns from `start` on and returns all columns so far.
///
/// # Shapes
/// - `new`: `[rows, num_key_value_heads, new, head_dim]`
/// - output: `[rows, num_key_value_heads, start + new, head_dim]`
fn append(cache: &mut Tensor<4>, new: Tensor<4>, start: usize) -> Tensor<4> {
    let [rows, heads, columns, head_dim] = new.dims();
    let end = start + columns;
    // Taken out, so that the tensor has one owner and is written where it is.
    let whole = std::mem::replace(cache, Tensor::empty([1, 1, 1, 1], &new.device()));
    *cache = whole.slice_assign([0..rows, 0..heads, start..end, 0..head_dim], new);
    cache.clone().narrow(2, 0, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::AttentionPlan;
    use crate::drawn::drawn;
    use crate::gemm::Precision;
    use crate::rotary_attention;
    use proptest::prelude::*;

    const LAYOUT: HeadLayout = HeadLayout { num_attention_heads: 6, num_key_value_heads: 2, head_dim: 20 };
    const WIDTH: usize = (6 + 2 * 2) * 20;
    const TOKENS: usize = 41;
    const PADDING: [usize; 3] = [4, 0, 7];

    fn norms() -> Option<HeadNorms> {
        let weight = |seed| drawn::<2>(seed, [1, 20], 0.5..1.5).reshape([20]);
        Some(HeadNorms { query_weight: weight(3), key_weight: weight(4), epsilon: 1e-6 })
    }

    /// Each row's attention, from one pass of training's operator over the row alone.
    fn expected(projected: &Tensor<3>, row: usize) -> Tensor<3> {
        let length = TOKENS - PADDING[row];
        let positions: Vec<u32> = (0..length as u32).collect();
        let plan = AttentionPlan::new(&positions, length, 20, 10_000.0, &projected.device());
        let alone = projected.clone().narrow(0, row, 1).narrow(1, PADDING[row], length);
        rotary_attention(alone, norms(), LAYOUT, &plan, Precision::Fp32)
    }

    fn assert_close(actual: Tensor<3>, expected: Tensor<3>) {
        let distance = (actual - expected).abs().max().into_scalar::<f32>();
        // Sums of up to 41 products in another order.
        assert!(distance < 1e-5, "{distance}");
    }

    /// The outputs of passes over 9 columns, then one column each, and of the second and third row from column 20 on.
    fn cached(mut cache: KeyValueCache, device: &Device, projected: &Tensor<3>) {
        let angles = CacheAngles::new(TOKENS, 20, 10_000.0, device);
        let pass = |cache: &mut KeyValueCache, rows: &[usize], start: usize, tokens: usize| {
            let padding: Vec<usize> = rows.iter().map(|row| PADDING[*row]).collect();
            let plan = CachePlan::new(&padding, start, tokens, &angles);
            let all = rows.iter().map(|row| projected.clone().narrow(0, *row, 1).narrow(1, start, tokens)).collect();
            let output = cache.attend(Tensor::cat(all, 0), norms(), LAYOUT, &plan);
            for (index, row) in rows.iter().enumerate() {
                let skipped = PADDING[*row].saturating_sub(start);
                let columns = start + skipped - PADDING[*row];
                let expected = expected(projected, *row).narrow(1, columns, tokens - skipped);
                let output = output.clone().narrow(0, index, 1);
                assert!(output.clone().sum().into_scalar::<f32>().is_finite());
                assert_close(output.narrow(1, skipped, tokens - skipped), expected);
            }
        };
        pass(&mut cache, &[0, 1, 2], 0, 9);
        cache.grow(TOKENS);
        (9..20).for_each(|column| pass(&mut cache, &[0, 1, 2], column, 1));
        cache.keep(&[1, 2]);
        (20..TOKENS).for_each(|column| pass(&mut cache, &[1, 2], column, 1));
    }

    #[test]
    fn cached_attention_is_that_of_a_whole_pass_over_each_row() {
        let projected = drawn(1, [3, TOKENS, WIDTH], -2.0..2.0);
        let device = projected.device();
        cached(KeyValueCache::new(3, 9, LAYOUT, &device), &device, &projected);
    }

    /// Tokens that each row has read before the rows go on together.
    const READ: [usize; 3] = [9, 3, 20];

    /// Outputs of a column more of each row, each in a cache of its own, together and one by one.
    fn together_and_alone(new_cache: &dyn Fn(&Device) -> KeyValueCache) -> [Vec<Tensor<3>>; 2] {
        let projected: Tensor<3> = drawn(1, [3, TOKENS, WIDTH], -2.0..2.0);
        let device = projected.device();
        let angles = CacheAngles::new(TOKENS, 20, 10_000.0, &device);
        let column =
            |row: usize, start: usize, tokens: usize| projected.clone().narrow(0, row, 1).narrow(1, start, tokens);
        let read = |row: usize| {
            let mut cache = new_cache(&device);
            cache.attend(column(row, 0, READ[row]), norms(), LAYOUT, &CachePlan::new(&[0], 0, READ[row], &angles));
            cache
        };
        let (mut caches, mut alone) = ([0, 1, 2].map(read), [0, 1, 2].map(read));
        let mut outputs = [Vec::new(), Vec::new()];
        for step in 0..7 {
            let plans = READ.map(|read| CachePlan::new(&[0], read + step, 1, &angles));
            let inputs = [0, 1, 2].map(|row| column(row, READ[row] + step, 1));
            let joined = Tensor::cat(inputs.to_vec(), 0);
            outputs[0].push(KeyValueCache::attend_each(caches.iter_mut().collect(), joined, norms(), LAYOUT, &plans));
            let rows = alone.iter_mut().zip(inputs).zip(&plans);
            let rows = rows.map(|((cache, input), plan)| cache.attend(input, norms(), LAYOUT, plan));
            outputs[1].push(Tensor::cat(rows.collect(), 0));
        }
        outputs
    }

    #[test]
    fn rows_in_caches_of_their_own_have_the_bits_that_they_have_alone() {
        let [together, alone] = together_and_alone(&|device| KeyValueCache::new(1, TOKENS, LAYOUT, device));
        for (step, (together, alone)) in together.into_iter().zip(alone).enumerate() {
            for (row, read) in READ.into_iter().enumerate() {
                let projected: Tensor<3> = drawn(1, [3, TOKENS, WIDTH], -2.0..2.0);
                let positions: Vec<u32> = (0..TOKENS as u32).collect();
                let plan = AttentionPlan::new(&positions, TOKENS, 20, 10_000.0, &projected.device());
                let whole = rotary_attention(projected.narrow(0, row, 1), norms(), LAYOUT, &plan, Precision::Fp32);
                assert_close(together.clone().narrow(0, row, 1), whole.narrow(1, read + step, 1));
            }
            assert_eq!(together.into_data(), alone.into_data());
        }
    }

    #[test]
    fn composed_cached_attention_is_the_fused_one() {
        let projected: Tensor<3> = drawn(1, [3, TOKENS, WIDTH], -2.0..2.0);
        let device = projected.device();
        let shape = [3, 2, 9, 20];
        let (keys, values) = (Tensor::zeros(shape, &device), Tensor::zeros(shape, &device));
        let mut composed = KeyValueCache(Buffers::Device { keys, values });
        let mut fused = KeyValueCache::new(3, TOKENS, LAYOUT, &device);
        let angles = CacheAngles::new(TOKENS, 20, 10_000.0, &device);
        for (start, tokens) in [(0, 9), (9, 1), (10, 2)] {
            composed.grow(TOKENS.min(9 + 2 * start));
            let mut plan = CachePlan::new(&PADDING, start, tokens, &angles);
            let positions: Vec<u32> = PADDING
                .iter()
                .flat_map(|padding| (start..start + tokens).map(move |column| column.saturating_sub(*padding) as u32))
                .collect();
            let visible = |row: usize, query: usize, key: usize| (PADDING[row]..=start + query).contains(&key);
            let mask = causal_mask([3, tokens, start + tokens], visible, &device);
            plan.device = Some((Rotary::new(&positions, tokens, 20, 10_000.0, &device), mask));
            let input = projected.clone().narrow(1, start, tokens);
            let one = composed.attend(input.clone(), norms(), LAYOUT, &plan);
            let other = fused.attend(input, norms(), LAYOUT, &plan);
            // From the last column of padding on.
            let skipped = 7usize.saturating_sub(start).min(tokens);
            assert_close(one.narrow(1, skipped, tokens - skipped), other.narrow(1, skipped, tokens - skipped));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn cached_attention_of_any_size_is_that_of_a_whole_pass(
            tokens in 2usize..40, first in 1usize..40, group in 1usize..=8, key_heads in 1usize..=3, half_width in 8usize..=64,
        ) {
            let (first, head_dim) = (first.min(tokens), 2 * half_width);
            let layout = HeadLayout { num_attention_heads: group * key_heads, num_key_value_heads: key_heads, head_dim };
            let projected: Tensor<3> = drawn(1, [1, tokens, (group + 2) * key_heads * head_dim], -2.0..2.0);
            let device = projected.device();
            let positions: Vec<u32> = (0..tokens as u32).collect();
            let plan = AttentionPlan::new(&positions, tokens, head_dim, 10_000.0, &device);
            let whole = rotary_attention(projected.clone(), None, layout, &plan, Precision::Fp32);
            let (mut cache, angles) =
                (KeyValueCache::new(1, tokens, layout, &device), CacheAngles::new(tokens, head_dim, 10_000.0, &device));
            for (start, length) in std::iter::once((0, first)).chain((first..tokens).map(|start| (start, 1))) {
                let plan = CachePlan::new(&[0], start, length, &angles);
                let output = cache.attend(projected.clone().narrow(1, start, length), None, layout, &plan);
                let distance = (output - whole.clone().narrow(1, start, length)).abs().max().into_scalar::<f32>();
                // Means of values up to 2, with weights from scores of up to some 40.
                prop_assert!(distance < 2e-5, "{}", distance);
            }
        }
    }
}
