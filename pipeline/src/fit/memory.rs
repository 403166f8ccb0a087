//! What is resident while a model generates.

use limbeck_config::ModelConfig;

/// Cells of the cache come in multiples of this: `GGML_PAD(n_ctx, 256)` in llama.cpp's `llama-context.cpp`.
const CACHE_PADDING: usize = 256;

/// Tokens of a prompt that llama.cpp computes at once: the default of `--ubatch-size`.
const UBATCH: usize = 512;

/// The program, its vocabulary and small buffers: llama.cpp's command-line programs with a model of some megabytes. A Python
/// process takes several times as much.
const RUNTIME_BYTES: u64 = 30_000_000;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheType {
    /// 16 bits: llama.cpp's default.
    F16,
    /// 8.5 bits: `--cache-type-k q8_0 --cache-type-v q8_0`.
    Q8_0,
}

/// Memory at a context.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// Of the weights, all of them.
    pub weights: u64,
    /// Of the intermediate results of a prompt.
    pub activations: u64,
    cache: [u64; 2],
}

impl Memory {
    /// Of a model whose tensors take `weights` bytes.
    pub fn new(config: &ModelConfig, weights: u64, context: usize) -> Self {
        let cache = [CacheType::F16, CacheType::Q8_0].map(|kind| cache_bytes(config, context, kind));
        Self { weights, activations: activation_bytes(config, context), cache }
    }

    /// Of the keys and values.
    pub fn cache_bytes(&self, kind: CacheType) -> u64 {
        match kind {
            CacheType::F16 => self.cache[0],
            CacheType::Q8_0 => self.cache[1],
        }
    }

    /// Weights, cache, activations and the program.
    pub fn resident_bytes(&self, kind: CacheType) -> u64 {
        self.weights + self.cache_bytes(kind) + self.activations + RUNTIME_BYTES
    }
}

/// Tokens that llama.cpp makes room for.
pub fn padded_context(context: usize) -> usize {
    context.next_multiple_of(CACHE_PADDING)
}

/// Of the keys and values of one sequence in every layer.
///
/// ```text
/// pad256(context) · L · 2 · K · D · bits / 8
/// ```
///
/// with L layers, K key-value heads of D, and 16 or 8.5 bits a value. `tests/reference/check_memory.py` compares it with what
/// llama.cpp says that it allocates.
pub fn cache_bytes(config: &ModelConfig, context: usize, kind: CacheType) -> u64 {
    let values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * padded_context(context);
    match kind {
        CacheType::F16 => 2 * values as u64,
        // Blocks of 32 values and a scale of 16 bits.
        CacheType::Q8_0 => (values / 32 * 34) as u64,
    }
}

/// llama.cpp's compute buffer: 32-bit floats of a part of a prompt at the widest place of a block, in its feed-forward layer or
/// its attention, and the 16-bit mask over the context.
///
/// ```text
/// 4 · U · max(5·H + 3·I, 3·Q·D + H) + 2 · U · pad256(context)      U = min(512, context)
/// ```
///
/// # Source
/// Fitted to what llama.cpp (b11549) reports for 13 shapes at three contexts each: exact where the feed-forward layer is
/// wider than the stream, off by up to a fifth for other shapes. Only the last token's logits are kept there.
pub fn activation_bytes(config: &ModelConfig, context: usize) -> u64 {
    let tokens = UBATCH.min(padded_context(context));
    let query_size = config.num_attention_heads * config.head_dim;
    let feed_forward = 5 * config.hidden_size + 3 * config.intermediate_size;
    let widest = feed_forward.max(3 * query_size + config.hidden_size);
    (4 * tokens * widest + 2 * tokens * padded_context(context)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::tests::config;

    /// What llama.cpp (b11549) said for a model of 4 layers of 512, 8 heads of 64, of them 2 of keys, feed-forward 1,536.
    #[test]
    fn cache_and_activations_are_llama_cpps() {
        let config = ModelConfig { num_hidden_layers: 4, ..config() };
        let mebibytes = |bytes: u64| (bytes as f64 / f64::from(1 << 20) * 100.0).round() / 100.0;
        for (context, cache, compute) in [(512, 1.0, 14.52), (4096, 8.0, 18.02), (16_384, 32.0, 30.02)] {
            assert_eq!(mebibytes(cache_bytes(&config, context, CacheType::F16)), cache);
            // 20 kB of it are of parts that are no activations.
            assert!((mebibytes(activation_bytes(&config, context)) - compute).abs() < 0.03);
        }
        assert_eq!(mebibytes(cache_bytes(&config, 4096, CacheType::Q8_0)), 4.25);
    }

    #[test]
    fn a_context_is_padded_to_whole_cells() {
        assert_eq!([1, 256, 257, 4000].map(padded_context), [256, 256, 512, 4096]);
        assert_eq!(cache_bytes(&config(), 300, CacheType::F16), cache_bytes(&config(), 512, CacheType::F16));
    }
}
