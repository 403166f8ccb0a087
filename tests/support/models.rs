//! Small models, and how they are trained.

use limbeck_config::{Architecture, ModelConfig};

/// A model in which no two axes have the same size.
pub(crate) fn small(architecture: Architecture) -> ModelConfig {
    ModelConfig {
        architecture,
        vocab_size: 59,
        hidden_size: 26,
        intermediate_size: 46,
        num_hidden_layers: 2,
        num_attention_heads: 6,
        num_key_value_heads: 3,
        head_dim: 4,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        tie_word_embeddings: architecture == Architecture::Qwen3,
        max_position_embeddings: 128,
    }
}
