//! Shape of the decoder.

use serde::{Deserialize, Serialize};

/// Which of Hugging Face's layouts the decoder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// `Qwen3ForCausalLM`: a norm on every head's queries and keys.
    Qwen3,
    /// `LlamaForCausalLM`: Llama, SmolLM, Mistral without its window.
    Llama,
    /// `Qwen2ForCausalLM`: Llama with biases on queries, keys and values.
    Qwen2,
}

/// A complete decoder shape, in Hugging Face's words. [`ModelSection::resolve`] makes a checked one.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Layout.
    pub architecture: Architecture,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Added under the root of every norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// Whether the output weights are the embedding.
    pub tie_word_embeddings: bool,
    /// Longest sequence that the model is meant for, in tokens.
    pub max_position_embeddings: usize,
}

/// `[model]`: what is left out is derived.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Layout.
    #[serde(default = "qwen3")]
    pub architecture: Architecture,
    /// Rows of the embedding; default: those of the tokenizer. Another number than the tokenizer's is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; default: `num_attention_heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; default: `hidden_size / num_attention_heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Added under the root of every norm.
    #[serde(default = "rms_norm_eps")]
    pub rms_norm_eps: f64,
    /// Base of the rotary angles.
    #[serde(default = "rope_theta")]
    pub rope_theta: f64,
    /// Whether the output weights are the embedding.
    #[serde(default = "tied")]
    pub tie_word_embeddings: bool,
    /// Longest sequence that the model is meant for; default: `data.sequence_length`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_position_embeddings: Option<usize>,
}

fn qwen3() -> Architecture {
    Architecture::Qwen3
}

fn rms_norm_eps() -> f64 {
    1e-6
}

fn rope_theta() -> f64 {
    10_000.0
}

fn tied() -> bool {
    true
}
