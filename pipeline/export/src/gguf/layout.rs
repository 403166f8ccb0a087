//! Which tensors a model has, under Hugging Face's names and llama.cpp's, and the order of the query and key rows.

use limbeck_config::{Architecture, ModelConfig};

/// One tensor of the model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TensorLayout {
    /// In `model.safetensors`.
    pub(crate) hugging_face: String,
    /// In the GGUF file.
    pub(crate) gguf: String,
    /// Sizes of the dimensions, outermost first.
    pub(crate) shape: Vec<usize>,
    /// Heads whose rows llama.cpp wants interleaved; `None` when the order is the same.
    pub(crate) interleaved_heads: Option<usize>,
}

/// Every tensor of the model, in the order of the file.
///
/// # Source
/// llama.cpp's `gguf-py/gguf/tensor_mapping.py`; shapes as in transformers' `modeling_qwen3.py`, `modeling_llama.py`,
/// `modeling_qwen2.py`.
pub(crate) fn tensor_layouts(config: &ModelConfig) -> Vec<TensorLayout> {
    let mut layouts = vec![plain("model.embed_tokens", "token_embd", vec![config.vocab_size, config.hidden_size])];
    for layer in 0..config.num_hidden_layers {
        layouts.extend(block(config, layer));
    }
    layouts.push(plain("model.norm", "output_norm", vec![config.hidden_size]));
    if !config.tie_word_embeddings {
        layouts.push(plain("lm_head", "output", vec![config.vocab_size, config.hidden_size]));
    }
    layouts
}

fn plain(hugging_face: &str, gguf: &str, shape: Vec<usize>) -> TensorLayout {
    let (hugging_face, gguf) = (format!("{hugging_face}.weight"), format!("{gguf}.weight"));
    TensorLayout { hugging_face, gguf, shape, interleaved_heads: None }
}

fn block(config: &ModelConfig, layer: usize) -> Vec<TensorLayout> {
    let query_size = config.num_attention_heads * config.head_dim;
    let key_size = config.num_key_value_heads * config.head_dim;
    let hidden_size = config.hidden_size;
    let tensor = |hugging_face: &str, gguf: &str, shape: Vec<usize>| {
        plain(&format!("model.layers.{layer}.{hugging_face}"), &format!("blk.{layer}.{gguf}"), shape)
    };
    let rotated = |hugging_face: &str, gguf: &str, heads: usize| {
        let interleaved_heads = match config.architecture {
            Architecture::Llama => Some(heads),
            Architecture::Qwen3 | Architecture::Qwen2 => None,
        };
        let shape = vec![heads * config.head_dim, hidden_size];
        TensorLayout { interleaved_heads, ..tensor(hugging_face, gguf, shape) }
    };
    let mut layouts = vec![
        tensor("input_layernorm", "attn_norm", vec![hidden_size]),
        rotated("self_attn.q_proj", "attn_q", config.num_attention_heads),
        rotated("self_attn.k_proj", "attn_k", config.num_key_value_heads),
        tensor("self_attn.v_proj", "attn_v", vec![key_size, hidden_size]),
        tensor("self_attn.o_proj", "attn_output", vec![hidden_size, query_size]),
    ];
    if config.architecture == Architecture::Qwen3 {
        layouts.push(tensor("self_attn.q_norm", "attn_q_norm", vec![config.head_dim]));
        layouts.push(tensor("self_attn.k_norm", "attn_k_norm", vec![config.head_dim]));
    }
    if config.architecture == Architecture::Qwen2 {
        for (hugging_face, gguf, size) in
            [("q_proj", "attn_q", query_size), ("k_proj", "attn_k", key_size), ("v_proj", "attn_v", key_size)]
        {
            layouts.push(TensorLayout {
                hugging_face: format!("model.layers.{layer}.self_attn.{hugging_face}.bias"),
                gguf: format!("blk.{layer}.{gguf}.bias"),
                shape: vec![size],
                interleaved_heads: None,
            });
        }
    }
    layouts.extend([
        tensor("post_attention_layernorm", "ffn_norm", vec![hidden_size]),
        tensor("mlp.gate_proj", "ffn_gate", vec![config.intermediate_size, hidden_size]),
        tensor("mlp.up_proj", "ffn_up", vec![config.intermediate_size, hidden_size]),
        tensor("mlp.down_proj", "ffn_down", vec![hidden_size, config.intermediate_size]),
    ]);
    layouts
}

/// Hugging Face's row order to llama.cpp's.
///
/// llama.cpp rotates neighbouring rows (2i, 2i + 1) of a head in architecture `llama`, Hugging Face rows (i, i +
/// head_dim / 2). A file without this permutation loads, and answers almost sensibly: only its logits tell.
///
/// # Shapes
/// `values`: [heads × head_dim, input_size].
pub(crate) fn interleave(values: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
    permute(values, heads, head_dim, |row| row % 2 * (head_dim / 2) + row / 2)
}

/// llama.cpp's row order to Hugging Face's: the inverse of [`interleave`].
///
/// # Shapes
/// `values`: [heads × head_dim, input_size].
pub(crate) fn separate(values: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
    permute(values, heads, head_dim, |row| row % (head_dim / 2) * 2 + row / (head_dim / 2))
}

fn permute(values: &[f32], heads: usize, head_dim: usize, source: impl Fn(usize) -> usize) -> Vec<f32> {
    let input_size = values.len() / (heads * head_dim);
    let mut permuted = Vec::with_capacity(values.len());
    for head in values.chunks_exact(head_dim * input_size) {
        for row in 0..head_dim {
            let start = source(row) * input_size;
            permuted.extend_from_slice(&head[start..start + input_size]);
        }
    }
    permuted
}

#[cfg(test)]
mod tests {
    use super::{interleave, separate};

    #[test]
    fn rows_of_the_two_halves_of_a_head_alternate() {
        // Two heads of six rows, one column: rows are their own numbers.
        let values: Vec<f32> = (0_u8..12).map(f32::from).collect();
        let interleaved = interleave(&values, 2, 6);
        assert_eq!(interleaved, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
        assert_eq!(separate(&interleaved, 2, 6), values);
    }

    #[test]
    fn a_row_moves_as_a_whole() {
        let values: Vec<f32> = (0_u8..12).map(f32::from).collect();
        // One head of four rows, three columns.
        assert_eq!(interleave(&values, 1, 4), [0.0, 1.0, 2.0, 6.0, 7.0, 8.0, 3.0, 4.0, 5.0, 9.0, 10.0, 11.0]);
    }
}
