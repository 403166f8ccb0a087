//! One decoder block.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use limbeck_config::{Architecture, ModelConfig};
use limbeck_kernels::{
    AttentionPlan, HeadLayout, HeadNorms, Precision, add_bias, int8_rounded, linear_add, linears, normed_linears,
    rotary_attention, swiglu_composed, swiglu_linear_add,
};

use crate::forward::{TracedBlock, TracedNorm};
use crate::layers::{Linear, RmsNorm};

/// Causal grouped-query attention; `qwen3` has a norm on every head's queries and keys, `qwen2` a bias on queries, keys and
/// values.
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
            Architecture::Llama | Architecture::Qwen2 => None,
        };
        let projection = |size| match config.architecture {
            Architecture::Qwen2 => Linear::zeros(config.hidden_size, size, device).with_bias(),
            Architecture::Qwen3 | Architecture::Llama => Linear::zeros(config.hidden_size, size, device),
        };
        Self {
            q_proj: projection(query_size),
            k_proj: projection(key_size),
            v_proj: projection(key_size),
            o_proj: Linear::zeros(query_size, config.hidden_size, device),
            q_norm: head_norm(),
            k_norm: head_norm(),
            layout,
        }
    }

    /// `residual` plus attention over `input`, every token of the batch at once: `[rows, tokens, hidden_size]`.
    fn forward(&self, residual: Tensor<3>, input: Input<'_>, pass: &Pass) -> Tensor<3> {
        let arithmetic = Arithmetic::from(pass);
        linear_add(residual, arithmetic.input(self.attended(input, pass)), self.o_proj.weight.val(), pass.precision)
    }

    /// What the heads give to `o_proj`: `[rows, tokens, num_attention_heads * head_dim]`.
    fn attended(&self, input: Input<'_>, pass: &Pass) -> Tensor<3> {
        let projected = self.project(input, Arithmetic::from(pass));
        rotary_attention(projected, self.norms(), self.layout, &pass.plan, pass.precision)
    }

    /// [`Attention::forward`] for tokens that follow others, which `attend` has the keys and values of.
    fn forward_cached(
        &self,
        residual: Tensor<3>,
        input: Input<'_>,
        arithmetic: Arithmetic,
        attend: impl FnOnce(Tensor<3>, Option<HeadNorms>, HeadLayout) -> Tensor<3>,
    ) -> Tensor<3> {
        let attended = attend(self.project(input, arithmetic), self.norms(), self.layout);
        linear_add(residual, arithmetic.input(attended), self.o_proj.weight.val(), arithmetic.precision)
    }

    /// The heads of queries, keys and values side by side, see [`rotary_attention`].
    fn project(&self, input: Input<'_>, arithmetic: Arithmetic) -> Tensor<3> {
        let layers = [&self.q_proj, &self.k_proj, &self.v_proj];
        let projected = arithmetic.layers(input, layers.map(|layer| layer.weight.val()));
        match layers.map(|layer| layer.bias.as_ref().map(|bias| bias.val())) {
            [Some(query), Some(key), Some(value)] => add_bias(projected, Tensor::cat(vec![query, key, value], 0)),
            _ => projected,
        }
    }

    fn norms(&self) -> Option<HeadNorms> {
        let (query, key) = (self.q_norm.as_ref()?, self.k_norm.as_ref()?);
        Some(HeadNorms { query_weight: query.weight.val(), key_weight: key.weight.val(), epsilon: query.epsilon })
    }
}

/// What one forward pass has in common for all blocks.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) plan: AttentionPlan,
    pub(crate) precision: Precision,
    /// Whether the inputs of matrices are rounded to 8 bits.
    pub(crate) int8_inputs: bool,
}

/// What layers read.
enum Input<'a> {
    /// What a norm makes of the stream, which the fused operator need not keep.
    Behind(&'a RmsNorm, Tensor<3>),
    /// The same, computed already.
    Normed(Tensor<3>),
}

/// How a block multiplies.
#[derive(Clone, Copy)]
pub(crate) struct Arithmetic {
    pub(crate) precision: Precision,
    /// Whether the inputs of matrices are rounded to 8 bits.
    pub(crate) int8_inputs: bool,
}

impl From<&Pass> for Arithmetic {
    fn from(pass: &Pass) -> Self {
        Self { precision: pass.precision, int8_inputs: pass.int8_inputs }
    }
}

impl Arithmetic {
    /// What a matrix reads.
    fn input(self, input: Tensor<3>) -> Tensor<3> {
        if self.int8_inputs { int8_rounded(input) } else { input }
    }

    /// Layers side by side.
    fn layers<const N: usize>(self, input: Input<'_>, weights: [Tensor<2>; N]) -> Tensor<3> {
        let normed = match input {
            Input::Behind(norm, stream) if !self.int8_inputs => {
                return normed_linears(stream, norm.weight.val(), norm.epsilon, weights, self.precision);
            }
            Input::Behind(norm, stream) => norm.forward(stream),
            Input::Normed(normed) => normed,
        };
        linears(self.input(normed), weights, self.precision)
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

    /// `residual` plus the layer's output.
    fn forward(&self, residual: Tensor<3>, input: Input<'_>, arithmetic: Arithmetic) -> Tensor<3> {
        let (gate_up, weight) = (self.gate_up(input, arithmetic), self.down_proj.weight.val());
        if arithmetic.int8_inputs {
            // The fused operator makes the input of `down_proj` itself, where it cannot be rounded.
            let input = arithmetic.input(swiglu_composed(gate_up));
            return linear_add(residual, input, weight, arithmetic.precision);
        }
        swiglu_linear_add(residual, gate_up, weight, arithmetic.precision)
    }

    /// Gates and their factors side by side: `[rows, tokens, 2 * intermediate_size]`.
    fn gate_up(&self, input: Input<'_>, arithmetic: Arithmetic) -> Tensor<3> {
        arithmetic.layers(input, [&self.gate_proj, &self.up_proj].map(|layer| layer.weight.val()))
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
    pub(crate) fn forward(&self, hidden: Tensor<3>, pass: &Pass) -> Tensor<3> {
        let input = Input::Behind(&self.input_layernorm, hidden.clone());
        self.feed_forward(self.self_attn.forward(hidden, input, pass), pass.into())
    }

    /// [`Block::forward`], with what its matrices read on the way.
    pub(crate) fn trace(&self, hidden: Tensor<3>, pass: &Pass) -> (Tensor<3>, TracedBlock) {
        let arithmetic = Arithmetic::from(pass);
        let product = |residual, input: &Tensor<3>, layer: &Linear| {
            linear_add(residual, arithmetic.input(input.clone()), layer.weight.val(), pass.precision)
        };
        let attention = TracedNorm::of(&self.input_layernorm, hidden.clone());
        let heads = self.self_attn.attended(Input::Normed(attention.after.clone()), pass);
        let hidden = product(hidden, &heads, &self.self_attn.o_proj);
        let feed_forward = TracedNorm::of(&self.post_attention_layernorm, hidden.clone());
        let neurons = swiglu_composed(self.mlp.gate_up(Input::Normed(feed_forward.after.clone()), arithmetic));
        let hidden = product(hidden, &neurons, &self.mlp.down_proj);
        (hidden, TracedBlock { attention, heads, feed_forward, neurons })
    }

    /// [`Block::forward`] for tokens that follow others, which `attend` has the keys and values of: a pass of
    /// [`limbeck_kernels::KeyValueCache`].
    pub(crate) fn forward_cached(
        &self,
        hidden: Tensor<3>,
        arithmetic: Arithmetic,
        attend: impl FnOnce(Tensor<3>, Option<HeadNorms>, HeadLayout) -> Tensor<3>,
    ) -> Tensor<3> {
        let input = Input::Behind(&self.input_layernorm, hidden.clone());
        self.feed_forward(self.self_attn.forward_cached(hidden, input, arithmetic, attend), arithmetic)
    }

    fn feed_forward(&self, hidden: Tensor<3>, arithmetic: Arithmetic) -> Tensor<3> {
        let input = Input::Behind(&self.post_attention_layernorm, hidden.clone());
        self.mlp.forward(hidden, input, arithmetic)
    }
}
