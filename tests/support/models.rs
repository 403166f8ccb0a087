//! Small models, and how they are trained.

use limbeck_config::{Architecture, ModelConfig, OptimizerSection};

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

/// The usual settings, without parameter groups.
pub(crate) fn optimizer(learning_rate: f64) -> OptimizerSection {
    OptimizerSection {
        learning_rate,
        beta_1: 0.9,
        beta_2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        max_grad_norm: 1.0,
        groups: Vec::new(),
    }
}
