//! What a generation has read.

use burn::tensor::Device;
use limbeck_config::ModelConfig;
use limbeck_kernels::{CacheAngles, CachePlan, HeadLayout, KeyValueCache};

/// The key-value cache of a batch. Rows are aligned at their ends: row `i` starts at column `left_padding[i]`.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) layers: Vec<KeyValueCache>,
    left_padding: Vec<usize>,
    columns: usize,
    capacity: usize,
    angles: CacheAngles,
}

impl Cache {
    pub(crate) fn new(config: &ModelConfig, left_padding: Vec<usize>, capacity: usize, device: &Device) -> Self {
        Self::with_angles(config, left_padding, capacity, angles(config, capacity, device), device)
    }

    /// With angles of `capacity` positions or more.
    pub(crate) fn with_angles(
        config: &ModelConfig,
        left_padding: Vec<usize>,
        capacity: usize,
        angles: CacheAngles,
        device: &Device,
    ) -> Self {
        let &ModelConfig { num_attention_heads, num_key_value_heads, head_dim, .. } = config;
        let layout = HeadLayout { num_attention_heads, num_key_value_heads, head_dim };
        let layer = |_| KeyValueCache::new(left_padding.len(), capacity, layout, device);
        Self { layers: (0..config.num_hidden_layers).map(layer).collect(), left_padding, columns: 0, capacity, angles }
    }

    /// The pass over the next `tokens` columns, which are then taken as read.
    pub(crate) fn advance(&mut self, tokens: usize) -> CachePlan {
        let start = self.columns;
        self.columns += tokens;
        CachePlan::new(&self.left_padding, start, tokens, &self.angles)
    }

    /// Makes room for a pass over `tokens` columns, and for more where it has to: `limit` is what there will be at most.
    pub(crate) fn reserve(&mut self, tokens: usize, limit: usize) {
        let needed = self.columns + tokens;
        if needed > self.capacity {
            self.capacity = needed.max(limit.min(2 * self.capacity));
            self.layers.iter_mut().for_each(|layer| layer.grow(self.capacity));
        }
    }

    /// Goes on with these rows alone.
    pub(crate) fn keep(&mut self, rows: &[usize]) {
        self.layers.iter_mut().for_each(|layer| layer.keep(rows));
        self.left_padding = rows.iter().map(|row| self.left_padding[*row]).collect();
    }
}

/// The rotary angles of `capacity` positions of a model.
pub(crate) fn angles(config: &ModelConfig, capacity: usize, device: &Device) -> CacheAngles {
    CacheAngles::new(capacity, config.head_dim, config.rope_theta, device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Transformer;
    use crate::weights::{HostTensor, NamedTensors, load_parameters, parameters};
    use burn::tensor::Tensor;
    use limbeck_config::Architecture;

    const VOCAB_SIZE: usize = 31;
    /// Tokens of each row before the first step; the longest row has no padding.
    const PROMPTS: [usize; 3] = [3, 7, 1];
    const STEPS: usize = 110;

    /// Matrices five times as large as they are initialised, so that every token matters.
    fn model() -> Transformer {
        let config = ModelConfig {
            architecture: Architecture::Qwen3,
            vocab_size: VOCAB_SIZE,
            hidden_size: 22,
            intermediate_size: 34,
            num_hidden_layers: 2,
            num_attention_heads: 6,
            num_key_value_heads: 2,
            head_dim: 8,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            tie_word_embeddings: true,
            max_position_embeddings: 128,
        };
        let model = Transformer::new(&config, 6, &Device::flex());
        let large = |(name, HostTensor { shape, values }): (String, HostTensor)| {
            let factor = if shape.len() > 1 { 5.0 } else { 1.0 };
            (name, HostTensor { shape, values: values.iter().map(|value| factor * value).collect() })
        };
        let weights: NamedTensors = parameters(&model).into_iter().map(large).collect();
        load_parameters(model, weights).unwrap()
    }

    fn token(row: usize, index: usize) -> u32 {
        ((row * 13 + index * index * 7 + index) % VOCAB_SIZE) as u32
    }

    fn values(logits: Tensor<2>) -> Vec<f32> {
        logits.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn cached_logits_of_ragged_rows_are_those_of_the_full_forward_pass() {
        let model = model();
        let expected = PROMPTS.map(|prompt| {
            let tokens = |row: usize| (0..prompt + STEPS).map(|i| token(row, i)).collect::<Vec<_>>();
            let row = PROMPTS.iter().position(|length| *length == prompt).unwrap();
            let positions: Vec<u32> = (0..(prompt + STEPS) as u32).collect();
            values(model.logits(&tokens(row), &positions, prompt + STEPS))
        });
        let width = 7;
        let padding = PROMPTS.map(|prompt| width - prompt);
        let mut cache = Cache::new(model.config(), padding.to_vec(), width + STEPS, &Device::flex());
        let first =
            |row: usize| (0..width).map(move |i| if i < padding[row] { 0 } else { token(row, i - padding[row]) });
        let mut inputs: Vec<u32> = (0..3).flat_map(first).collect();
        for step in 0..STEPS {
            let logits = values(model.next_logits(&inputs, inputs.len() / 3, &mut cache));
            for (row, actual) in logits.chunks(VOCAB_SIZE).enumerate() {
                let last = PROMPTS[row] + step - 1;
                let expected = &expected[row][last * VOCAB_SIZE..][..VOCAB_SIZE];
                for (actual, expected) in actual.iter().zip(expected) {
                    assert!((actual - expected).abs() < 1e-5, "row {row}, step {step}: {actual} {expected}");
                }
            }
            inputs = (0..3).map(|row| token(row, PROMPTS[row] + step)).collect();
        }
    }
}
