#!/usr/bin/env python3
"""Writes pipeline/export/tests/golden/: tokenizer files, and GGUF files that the `gguf` package makes of tiny models.

Made with: Python 3.11.7, numpy 2.4.6, gguf 0.19.0.
Run: python3 tests/reference/gguf_models.py pipeline/export/tests/golden

The permutation of the query and key rows is that of `LlamaModel.permute` in llama.cpp's `convert_hf_to_gguf.py`.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KEY_HEADS, HEAD_DIM, VOCAB, CONTEXT = 32, 64, 2, 3, 1, 10, 23, 77
EPSILON, THETA = 1e-6, 50_000.0
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LETTERS = [*"aehlotw", "Ġ", "Ċ", "é", "'"]
MERGES = [["h", "e"], ["l", "l"], ["he", "ll"], ["hell", "o"], ["Ġ", "w"]]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_tokenizer(directory):
    """Nineteen tokens, and one that is added but not special at id 21; the model has 23 rows, so three are padding."""
    directory.mkdir(parents=True, exist_ok=True)
    texts = SPECIAL + LETTERS + ["".join(merge) for merge in MERGES]
    added = [{"id": i, "content": text, "special": True} for i, text in enumerate(SPECIAL)]
    added.append({"id": 21, "content": "<think>", "special": False})
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**token, **flags} for token in added],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: i for i, text in enumerate(texts)},
            "merges": MERGES,
        },
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": {"content": "<|endoftext|>", "special": True},
        "add_bos_token": False,
        "model_max_length": CONTEXT,
    }
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1, ensure_ascii=False) + "\n")
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    tokens = texts + [f"[PAD{i}]" for i in range(len(texts), VOCAB)]
    types = [3] * len(SPECIAL) + [1] * (len(texts) - len(SPECIAL)) + [5] * (VOCAB - len(texts))
    tokens[21], types[21] = "<think>", 4
    return tokens, types


def tensor(seed, *shape):
    """Multiples of 1/512 between -1 and 1, exact in 16 bits; the test computes the same."""
    index = np.arange(np.prod(shape), dtype=np.int64)
    return (((index * 7919 + seed * 104_729) % 1009 - 504) / 512).astype(np.float32).reshape(shape)


def interleave(rows, heads):
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def tensors(architecture, tied):
    """Names and values in the order of the file; the seed is the place in it."""
    shapes = [("token_embd", (VOCAB, HIDDEN))]
    for layer in range(LAYERS):
        query_size, key_size = HEADS * HEAD_DIM, KEY_HEADS * HEAD_DIM
        block = [("attn_norm", (HIDDEN,)), ("attn_q", (query_size, HIDDEN)), ("attn_k", (key_size, HIDDEN))]
        block += [("attn_v", (key_size, HIDDEN)), ("attn_output", (HIDDEN, query_size))]
        if architecture == "qwen3":
            block += [("attn_q_norm", (HEAD_DIM,)), ("attn_k_norm", (HEAD_DIM,))]
        block += [("ffn_norm", (HIDDEN,)), ("ffn_gate", (INTERMEDIATE, HIDDEN)), ("ffn_up", (INTERMEDIATE, HIDDEN))]
        block += [("ffn_down", (HIDDEN, INTERMEDIATE))]
        shapes += [(f"blk.{layer}.{name}", shape) for name, shape in block]
    shapes += [("output_norm", (HIDDEN,))] + ([] if tied else [("output", (VOCAB, HIDDEN))])
    for seed, (name, shape) in enumerate(shapes):
        values = tensor(seed, *shape)
        if architecture == "llama" and name.endswith(("attn_q", "attn_k")):
            values = interleave(values, HEADS if name.endswith("attn_q") else KEY_HEADS)
        yield f"{name}.weight", np.ascontiguousarray(values)


def write_model(path, architecture, tied, kind, file_type, tokens, types):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("model")
    writer.add_name(path.stem)
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(THETA)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in MERGES])
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(TEMPLATE)
    kinds = gguf.GGMLQuantizationType
    for name, values in tensors(architecture, tied):
        stored = kinds.F32 if values.ndim == 1 else kind
        if values.shape[-1] % gguf.GGML_QUANT_SIZES[stored][0] != 0:
            stored = kinds.F16
        writer.add_tensor(name, gguf.quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_container(path):
    """Every type of value, and tensors of one to three dimensions whose bytes need padding."""
    writer = gguf.GGUFWriter(path, "none")
    writer.add_uint8("u8", 250)
    writer.add_int8("i8", -7)
    writer.add_uint16("u16", 65_000)
    writer.add_int16("i16", -30_000)
    writer.add_uint32("u32", 4_000_000_000)
    writer.add_int32("i32", -2_000_000_000)
    writer.add_float32("f32", 0.1)
    writer.add_bool("bool", True)
    writer.add_string("string", "Ġé 你好")
    writer.add_array("strings", ["a", "", "ß"])
    writer.add_array("integers", [3, -1, 2])
    writer.add_uint64("u64", 2**63)
    writer.add_int64("i64", -(2**62))
    writer.add_float64("f64", 0.1)
    kinds = gguf.GGMLQuantizationType
    for name, shape, kind in [
        ("vector", (5,), kinds.F32),
        ("matrix", (3, 7), kinds.F16),
        ("cube", (2, 3, 32), kinds.Q8_0),
        ("small", (3, 64), kinds.Q4_0),
        ("brain", (1, 9), kinds.BF16),
    ]:
        writer.add_tensor(name, gguf.quants.quantize(tensor(len(name), *shape), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    directory = Path(sys.argv[1])
    tokens, types = write_tokenizer(directory / "tokenizer")
    kinds = gguf.GGMLQuantizationType
    write_model(directory / "qwen3-tied-q8_0.gguf", "qwen3", True, kinds.Q8_0, 7, tokens, types)
    write_model(directory / "llama-untied-f32.gguf", "llama", False, kinds.F32, 0, tokens, types)
    write_model(directory / "llama-tied-f16.gguf", "llama", True, kinds.F16, 1, tokens, types)
    write_container(directory / "container.gguf")


if __name__ == "__main__":
    main()
