//! One decoder block.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use limbeck_config::{Architecture, ModelConfig};
use limbeck_kernels::{AttentionPlan, HeadLayout, attention, rotary_attention, rotate, swiglu};

use crate::cache::{Context, LayerCache};
use crate::layers::{Linear, RmsNorm};

/// Causal grouped-query attention; `qwen3` has a norm on every head's queries and keys.
#[derive(Module, Debug)]
pub struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    #[module(skip)]
    layout: HeadLayout,
    rope_theta: f64,
}

impl Attention {
    fn new(config: &ModelConfig, device: &Device) -> Self {
        let layout = HeadLayout {
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
        };
        let query_size = layout.num_attention_heads * layout.head_dim;
        let key_size = layout.num_key_value_heads * layout.head_dim;
        let head_norm = || match config.architecture {
            Architecture::Qwen3 => Some(RmsNorm::new(layout.head_dim, config.rms_norm_eps, device)),
            Architecture::Llama => None,
        };
        Self {
            q_proj: Linear::zeros(config.hidden_size, query_size, device),
            k_proj: Linear::zeros(config.hidden_size, key_size, device),
            v_proj: Linear::zeros(config.hidden_size, key_size, device),
            o_proj: Linear::zeros(query_size, config.hidden_size, device),
            q_norm: head_norm(),
            k_norm: head_norm(),
            layout,
            rope_theta: config.rope_theta,
        }
    }

    /// `[rows, tokens, hidden_size]` to the same, every token of the batch at once.
    fn forward(&self, input: Tensor<3>, plan: &AttentionPlan) -> Tensor<3> {
        let [queries, keys, values] = self.heads(input);
        self.o_proj.forward(rotary_attention(queries, keys, values, plan))
    }

    /// [`Attention::forward`] for the tokens that follow those in `cache`.
    fn forward_cached(&self, input: Tensor<3>, cache: &mut LayerCache, context: &Context) -> Tensor<3> {
        let [queries, keys, values] = self.heads(input);
        let queries = rotate(queries.swap_dims(1, 2), &context.positions, self.rope_theta);
        let keys = rotate(keys.swap_dims(1, 2), &context.positions, self.rope_theta);
        let (keys, values) = cache.append(keys, values.swap_dims(1, 2), context.start);
        self.o_proj.forward(attention(queries, keys, values, context.mask.clone()))
    }

    /// Queries, keys and values before the rotary embedding: `[rows, tokens, heads, head_dim]`.
    fn heads(&self, input: Tensor<3>) -> [Tensor<4>; 3] {
        let [rows, tokens, _] = input.dims();
        let HeadLayout { num_attention_heads, num_key_value_heads, head_dim } = self.layout;
        let split = |tensor: Tensor<3>, heads: usize| tensor.reshape([rows, tokens, heads, head_dim]);
        let queries = split(self.q_proj.forward(input.clone()), num_attention_heads);
        let keys = split(self.k_proj.forward(input.clone()), num_key_value_heads);
        let values = split(self.v_proj.forward(input), num_key_value_heads);
        [norm_heads(&self.q_norm, queries), norm_heads(&self.k_norm, keys), values]
    }
}

fn norm_heads(norm: &Option<RmsNorm>, heads: Tensor<4>) -> Tensor<4> {
    match norm {
        Some(norm) => norm.forward(heads),
        None => heads,
    }
}

/// The gated feed-forward layer.
#[derive(Module, Debug)]
pub struct FeedForward {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl FeedForward {
    fn new(config: &ModelConfig, device: &Device) -> Self {
        Self {
            gate_proj: Linear::zeros(config.hidden_size, config.intermediate_size, device),
            up_proj: Linear::zeros(config.hidden_size, config.intermediate_size, device),
            down_proj: Linear::zeros(config.intermediate_size, config.hidden_size, device),
        }
    }

    fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        self.down_proj.forward(swiglu(self.gate_proj.forward(input.clone()), self.up_proj.forward(input)))
    }
}

/// Attention and feed-forward, each behind a norm and around a residual connection.
#[derive(Module, Debug)]
pub struct Block {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: FeedForward,
}

impl Block {
    /// A block with zero matrices and unit norms.
    pub(crate) fn new(config: &ModelConfig, device: &Device) -> Self {
        Self {
            input_layernorm: RmsNorm::new(config.hidden_size, config.rms_norm_eps, device),
            self_attn: Attention::new(config, device),
            post_attention_layernorm: RmsNorm::new(config.hidden_size, config.rms_norm_eps, device),
            mlp: FeedForward::new(config, device),
        }
    }

    /// `[rows, tokens, hidden_size]` to the same.
    pub(crate) fn forward(&self, hidden: Tensor<3>, plan: &AttentionPlan) -> Tensor<3> {
        let attended = self.self_attn.forward(self.input_layernorm.forward(hidden.clone()), plan);
        self.feed_forward(hidden + attended)
    }

    /// [`Block::forward`] for the tokens that follow those in `cache`.
    pub(crate) fn forward_cached(&self, hidden: Tensor<3>, cache: &mut LayerCache, context: &Context) -> Tensor<3> {
        let normed = self.input_layernorm.forward(hidden.clone());
        self.feed_forward(hidden + self.self_attn.forward_cached(normed, cache, context))
    }

    fn feed_forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        hidden.clone() + self.mlp.forward(self.post_attention_layernorm.forward(hidden))
    }
}
