//! Keys and values of the tokens that a generation has read.

use burn::tensor::{Device, Tensor};
use limbeck_config::ModelConfig;
use limbeck_kernels::{Precision, Rotary, causal_mask};

/// One layer's keys (after the rotary embedding) and values, allocated once.
#[derive(Debug)]
pub(crate) struct LayerCache {
    keys: Tensor<4>,
    values: Tensor<4>,
}

impl LayerCache {
    /// Stores the new columns from `start` on and returns all columns so far.
    ///
    /// # Shapes
    /// - `keys`, `values`: `[rows, num_key_value_heads, new, head_dim]`
    /// - outputs: `[rows, num_key_value_heads, start + new, head_dim]`
    pub(crate) fn append(&mut self, keys: Tensor<4>, values: Tensor<4>, start: usize) -> (Tensor<4>, Tensor<4>) {
        let store = |cache: &mut Tensor<4>, new: Tensor<4>| {
            let [rows, heads, _, head_dim] = cache.dims();
            let end = start + new.dims()[2];
            // Taken out, so that the tensor has one owner and is written where it is.
            let whole = std::mem::replace(cache, Tensor::empty([1, 1, 1, 1], &new.device()));
            *cache = whole.slice_assign([0..rows, 0..heads, start..end, 0..head_dim], new);
            cache.clone().narrow(2, 0, end)
        };
        (store(&mut self.keys, keys), store(&mut self.values, values))
    }
}

/// The key-value cache of a batch. Rows are aligned at their ends: row `i` starts at column `left_padding[i]`.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    left_padding: Vec<usize>,
    columns: usize,
    head_dim: usize,
    rope_theta: f64,
}

/// Where the tokens of one forward pass stand.
#[derive(Debug)]
pub(crate) struct Context {
    /// First column of the pass.
    pub(crate) start: usize,
    /// The rotary embedding at each token's position in its own row.
    pub(crate) rotary: Rotary,
    /// `[rows, 1, 1, tokens, start + tokens]`.
    pub(crate) mask: Tensor<5>,
    pub(crate) precision: Precision,
}

impl Cache {
    pub(crate) fn new(config: &ModelConfig, left_padding: Vec<usize>, capacity: usize, device: &Device) -> Self {
        let shape = [left_padding.len(), config.num_key_value_heads, capacity, config.head_dim];
        let layer = |_| LayerCache { keys: Tensor::zeros(shape, device), values: Tensor::zeros(shape, device) };
        Self {
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            left_padding,
            columns: 0,
            head_dim: config.head_dim,
            rope_theta: config.rope_theta,
        }
    }

    /// The context of the next `tokens` columns, which are then taken as read.
    pub(crate) fn advance(&mut self, tokens: usize, precision: Precision, device: &Device) -> Context {
        let start = self.columns;
        self.columns += tokens;
        let rows = self.left_padding.len();
        let column = |i: usize| start + i;
        let positions: Vec<u32> = self
            .left_padding
            .iter()
            .flat_map(|padding| (0..tokens).map(move |i| column(i).saturating_sub(*padding) as u32))
            .collect();
        let visible = |row: usize, query: usize, key: usize| (self.left_padding[row]..=column(query)).contains(&key);
        let mask = causal_mask([rows, tokens, self.columns], visible, device);
        let rotary = Rotary::new(&positions, tokens, self.head_dim, self.rope_theta, device);
        Context { start, rotary, mask, precision }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Transformer;
    use crate::weights::{HostTensor, NamedTensors, load_parameters, parameters};
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
