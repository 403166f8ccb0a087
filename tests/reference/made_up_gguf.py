"""GGUF files with made-up weights, for measurements of speed: Qwen3's layout with tied embeddings, in F16 or F32."""

from dataclasses import dataclass

import gguf
import numpy as np


@dataclass
class Shape:
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    head_dim: int
    vocab: int
    context: int


def matrices(shape):
    """By their names."""
    queries, keys = shape.heads * shape.head_dim, shape.key_heads * shape.head_dim
    yield "token_embd", (shape.vocab, shape.hidden)
    for layer in range(shape.layers):
        for name, size in {
            "attn_q": (queries, shape.hidden),
            "attn_k": (keys, shape.hidden),
            "attn_v": (keys, shape.hidden),
            "attn_output": (shape.hidden, queries),
            "ffn_gate": (shape.intermediate, shape.hidden),
            "ffn_up": (shape.intermediate, shape.hidden),
            "ffn_down": (shape.hidden, shape.intermediate),
        }.items():
            yield f"blk.{layer}.{name}", size


def write(path, shape, dtype):
    """Writes the file; gives the bytes of its tensors. `dtype` is that of the matrices, of NumPy."""
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    texts = ["<|endoftext|>", "<|im_end|>", *"abcdefghijklmnopqrstuvwxyz", "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts + [f"[PAD{i}]" for i in range(len(texts), shape.vocab)])
    writer.add_token_types([3, 3] + [1] * (shape.vocab - 2))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(0)
    writer.add_add_bos_token(False)
    pool = (np.random.default_rng(0).standard_normal(1 << 22) * 0.02).astype(dtype)
    size = 0
    for name, dimensions in matrices(shape):
        values = np.resize(pool, dimensions)
        writer.add_tensor(f"{name}.weight", values)
        size += values.nbytes
    norms = {"output_norm": shape.hidden}
    for layer in range(shape.layers):
        norms |= {f"blk.{layer}.attn_norm": shape.hidden, f"blk.{layer}.ffn_norm": shape.hidden}
        norms |= {f"blk.{layer}.attn_q_norm": shape.head_dim, f"blk.{layer}.attn_k_norm": shape.head_dim}
    for name, length in norms.items():
        writer.add_tensor(f"{name}.weight", np.ones(length, np.float32))
        size += 4 * length
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return size
