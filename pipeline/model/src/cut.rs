//! A smaller model from some of a model's blocks, heads, neurons, channels and tokens.

use burn::tensor::Device;
use limbeck_config::ModelConfig;

use crate::error::ModelError;
use crate::transformer::Transformer;
use crate::weights::{HostTensor, NamedTensors, load_parameters, parameters};

/// What stays, as indices into the model that is cut. Their order is that of the smaller model.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// Rows of the embedding and of the output weights.
    pub tokens: Vec<usize>,
    /// Channels of the stream between the blocks.
    pub channels: Vec<usize>,
    /// Blocks, with what stays of each.
    pub blocks: Vec<BlockCut>,
    /// Factor on the weight of the last norm, see [`BlockCut::attention_gain`].
    pub gain: f32,
}

/// What stays of a block. Blocks of one model keep the same numbers of heads and neurons.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockCut {
    /// Its number.
    pub block: usize,
    /// Query heads, those of one key-value head next to each other.
    pub heads: Vec<usize>,
    /// Key and value heads.
    pub key_value_heads: Vec<usize>,
    /// Neurons of the feed-forward layer.
    pub neurons: Vec<usize>,
    /// Factor on the weight of the norm before attention. Without channels a root mean square is another one: where those
    /// that go are zero, `√(channels that stay / all channels)` gives the others what they had.
    pub attention_gain: f32,
    /// The same of the norm before the feed-forward layer.
    pub feed_forward_gain: f32,
}

/// One dimension of a parameter.
#[derive(Clone, Copy)]
enum Axis {
    Tokens,
    Channels,
    Queries,
    Keys,
    Neurons,
}

impl Cut {
    /// The cut that takes nothing away.
    pub fn nothing(config: &ModelConfig) -> Self {
        let block = |block| BlockCut {
            block,
            heads: (0..config.num_attention_heads).collect(),
            key_value_heads: (0..config.num_key_value_heads).collect(),
            neurons: (0..config.intermediate_size).collect(),
            attention_gain: 1.0,
            feed_forward_gain: 1.0,
        };
        Self {
            tokens: (0..config.vocab_size).collect(),
            channels: (0..config.hidden_size).collect(),
            blocks: (0..config.num_hidden_layers).map(block).collect(),
            gain: 1.0,
        }
    }

    /// The cut that keeps these tokens, in this order, and all else: the softmax over what stays is the model's own
    /// distribution given that the next token is one of them.
    pub fn to_tokens(config: &ModelConfig, ids: &[u32]) -> Self {
        Self { tokens: ids.iter().map(|id| *id as usize).collect(), ..Self::nothing(config) }
    }

    /// The shape of what stays of a model of shape `whole`.
    pub fn shape(&self, whole: &ModelConfig) -> ModelConfig {
        let of_first = |count: fn(&BlockCut) -> usize| self.blocks.first().map_or(0, count);
        ModelConfig {
            vocab_size: self.tokens.len(),
            hidden_size: self.channels.len(),
            num_hidden_layers: self.blocks.len(),
            num_attention_heads: of_first(|block| block.heads.len()),
            num_key_value_heads: of_first(|block| block.key_value_heads.len()),
            intermediate_size: of_first(|block| block.neurons.len()),
            ..whole.clone()
        }
    }

    /// What stays of `model`, on `device` and in the model's precision.
    ///
    /// # Errors
    /// If blocks keep different numbers of heads or neurons.
    ///
    /// # Panics
    /// If an index is beyond the model.
    pub fn apply(&self, model: &Transformer, device: &Device) -> Result<Transformer, ModelError> {
        let smaller = Transformer::zeros(&self.shape(model.config()), device);
        let tensors = self.tensors(&parameters(model), model.config().head_dim);
        Ok(load_parameters(smaller, tensors)?.with_precision(model.precision()))
    }

    fn tensors(&self, whole: &NamedTensors, head_dim: usize) -> NamedTensors {
        let mut tensors = NamedTensors::new();
        for (name, tensor) in whole {
            let Some(rest) = name.strip_prefix("model.layers.") else {
                tensors.insert(name.clone(), self.cut(tensor, name, None, head_dim));
                continue;
            };
            let (number, parameter) = rest.split_once('.').unwrap_or((rest, ""));
            for (new, block) in self.blocks.iter().enumerate().filter(|(_, block)| block.block.to_string() == number) {
                tensors.insert(
                    format!("model.layers.{new}.{parameter}"),
                    self.cut(tensor, parameter, Some(block), head_dim),
                );
            }
        }
        tensors
    }

    /// What stays of the parameter `name`, without its block's prefix.
    fn cut(&self, tensor: &HostTensor, name: &str, block: Option<&BlockCut>, head_dim: usize) -> HostTensor {
        let (rows, columns, gain) = match name.trim_end_matches(".weight") {
            "model.embed_tokens" | "lm_head" => (Some(Axis::Tokens), Some(Axis::Channels), 1.0),
            "model.norm" => (Some(Axis::Channels), None, self.gain),
            "input_layernorm" => (Some(Axis::Channels), None, block.map_or(1.0, |block| block.attention_gain)),
            "post_attention_layernorm" => {
                (Some(Axis::Channels), None, block.map_or(1.0, |block| block.feed_forward_gain))
            }
            "self_attn.q_proj" => (Some(Axis::Queries), Some(Axis::Channels), 1.0),
            "self_attn.k_proj" | "self_attn.v_proj" => (Some(Axis::Keys), Some(Axis::Channels), 1.0),
            "self_attn.q_proj.bias" => (Some(Axis::Queries), None, 1.0),
            "self_attn.k_proj.bias" | "self_attn.v_proj.bias" => (Some(Axis::Keys), None, 1.0),
            "self_attn.o_proj" => (Some(Axis::Channels), Some(Axis::Queries), 1.0),
            "mlp.gate_proj" | "mlp.up_proj" => (Some(Axis::Neurons), Some(Axis::Channels), 1.0),
            "mlp.down_proj" => (Some(Axis::Channels), Some(Axis::Neurons), 1.0),
            // The norms of queries and keys are as wide as a head, which stays as it is.
            _ => (None, None, 1.0),
        };
        let indices = |axis: Option<Axis>, size: usize| match (axis, block) {
            (Some(Axis::Tokens), _) => self.tokens.clone(),
            (Some(Axis::Channels), _) => self.channels.clone(),
            (Some(Axis::Queries), Some(block)) => of_heads(&block.heads, head_dim),
            (Some(Axis::Keys), Some(block)) => of_heads(&block.key_value_heads, head_dim),
            (Some(Axis::Neurons), Some(block)) => block.neurons.clone(),
            _ => (0..size).collect(),
        };
        let width = tensor.shape.get(1).copied().unwrap_or(1);
        let (rows, columns) = (indices(rows, tensor.shape[0]), indices(columns, width));
        let mut values = Vec::with_capacity(rows.len() * columns.len());
        for row in &rows {
            let row = &tensor.values[row * width..(row + 1) * width];
            values.extend(columns.iter().map(|column| row[*column] * gain));
        }
        let shape = if tensor.shape.len() == 1 { vec![rows.len()] } else { vec![rows.len(), columns.len()] };
        HostTensor { shape, values }
    }
}

/// The rows that belong to heads.
fn of_heads(heads: &[usize], head_dim: usize) -> Vec<usize> {
    heads.iter().flat_map(|head| head * head_dim..(head + 1) * head_dim).collect()
}
