#!/usr/bin/env python3
"""Writes teachers/: models as users have them, and what transformers makes of each.

    python tests/reference/make_teacher_fixtures.py

Made with: Python 3.11.7, torch 2.15.0 (CPU), transformers 5.23.0, safetensors 0.8.0, numpy 2.4.6, gguf 0.19.0.

* `llama/`: bfloat16 in several files with an index, several end tokens, Llama 3's kind of tokenizer.
* `qwen2/`: float16 in one file, and a `config.json` as transformers 4 wrote it, without what has a default.
* `mixed.gguf`: a Llama with every type of tensor that is read, drawn blocks among them, and SmolLM's kind of tokenizer.

`<name>.json` has token ids and the logits after each, in float64 from the rounded weights; of `mixed.gguf` also those of the
rows of queries and keys as they stand in the file, not in transformers' order.
"""

import json
from collections import Counter
from pathlib import Path

import gguf
import numpy as np
import torch
from make_parity_fixtures import double_precision
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

OUTPUT = Path(__file__).parent / "teachers"
TEXT = "the cat sat on the mat and the rat sat on the cat then the hat of the man in the rain 12 312 and then some"
MERGES = 24
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
CHATML_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_characters():
    """GPT-2's `bytes_to_unicode`: itself where a byte prints, else the next character from U+0100 on."""
    prints = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in prints]
    return {byte: chr(byte) for byte in prints} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def learn(alphabet, count):
    """Byte-level tokens and merges: the most frequent pair of the text's words, the first in order among equals."""
    words = [["Ġ", *word] for word in TEXT.split()]
    tokens, merges = list(alphabet), []
    while len(merges) < count:
        pairs = Counter(pair for word in words for pair in zip(word, word[1:]))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(list(best))
        assert "".join(best) not in tokens
        tokens.append("".join(best))
        for word in words:
            for i in range(len(word) - 1, 0, -1):
                if (word[i - 1], word[i]) == best:
                    word[i - 1 : i + 1] = ["".join(best)]
    return tokens, merges


def model_of(config_class, model_class, config, weights):
    with double_precision():
        model = model_class(config_class(**config, attn_implementation="eager")).to(torch.float64).eval()
        missing = model.load_state_dict({key: value.double() for key, value in weights.items()}, strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"lm_head.weight"}, missing
    return model


def logits_of(model, tokens):
    with double_precision(), torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].tolist()


def draw(model_class, config, generator, dtype):
    weights = {}
    for key, parameter in model_class(config).named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        norm = parameter.dim() == 1 and not key.endswith(".bias")
        scale = 1.2 / parameter.shape[-1] ** 0.5 if parameter.dim() > 1 else 0.3
        weights[key] = (noise * scale + (1.0 if norm else 0.0)).to(dtype)
    return weights


def write_expected(name, tokens, **logits):
    text = json.dumps({"tokens": tokens, **{key: np.round(value, 7).tolist() for key, value in logits.items()}})
    (OUTPUT / f"{name}.json").write_text(text + "\n")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_tokenizer(directory, special, pre_tokenizer, ignore_merges, config):
    tokens, merges = learn(byte_characters().values(), MERGES)
    texts = tokens + special
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore_merges}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": texts.index(text), "content": text, **flags} for text in special],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [pre_tokenizer, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {**model, "vocab": {text: i for i, text in enumerate(tokens)}, "merges": merges},
    }
    write_json(directory / "tokenizer.json", tokenizer)
    write_json(directory / "tokenizer_config.json", config)
    return texts


def write_llama(generator):
    directory = OUTPUT / "llama"
    directory.mkdir(parents=True, exist_ok=True)
    split = {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}
    config = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "chat_template": LLAMA3_TEMPLATE}
    texts = write_tokenizer(directory, LLAMA3_SPECIAL, split, True, config)
    sizes = {
        "vocab_size": len(texts) + 3,  # rows that no token has
        "hidden_size": 36,
        "intermediate_size": 52,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 30000.0},
        "tie_word_embeddings": False,
        "max_position_embeddings": 256,
        "bos_token_id": texts.index("<|begin_of_text|>"),
        "eos_token_id": [texts.index("<|end_of_text|>"), texts.index("<|eot_id|>"), texts.index("<|end_header_id|>")],
    }
    weights = draw(LlamaForCausalLM, LlamaConfig(**sizes), generator, torch.bfloat16)
    model = LlamaForCausalLM(LlamaConfig(**sizes)).to(torch.bfloat16)
    model.load_state_dict(weights)
    model.save_pretrained(directory, max_shard_size="40KB")
    assert (directory / "model.safetensors.index.json").exists()
    tokens = torch.randint(sizes["vocab_size"], (23,), generator=generator).tolist()
    write_expected("llama", tokens, logits=logits_of(model_of(LlamaConfig, LlamaForCausalLM, sizes, weights), tokens))


def write_qwen2(generator):
    directory = OUTPUT / "qwen2"
    directory.mkdir(parents=True, exist_ok=True)
    split = {"type": "Split", "pattern": {"Regex": LLAMA3.replace("{1,3}", "")}, "behavior": "Isolated", "invert": False}
    config = {"bos_token": None, "eos_token": "<|im_end|>", "chat_template": CHATML_TEMPLATE}
    texts = write_tokenizer(directory, CHATML_SPECIAL, split, False, config)
    sizes = {
        "vocab_size": len(texts) + 1,
        "hidden_size": 40,
        "intermediate_size": 58,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "max_position_embeddings": 256,
    }
    weights = draw(Qwen2ForCausalLM, Qwen2Config(**sizes), generator, torch.float16)
    model = Qwen2ForCausalLM(Qwen2Config(**sizes)).to(torch.float16)
    model.load_state_dict(weights, strict=False)
    model.save_pretrained(directory)
    # transformers 4 wrote neither head_dim nor rope_parameters; rope_theta is left to its default, 10000.
    old = {"architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "model_type": "qwen2", "sliding_window": 4096}
    old |= {"torch_dtype": "float16", "use_sliding_window": False, "rope_scaling": None}
    write_json(directory / "config.json", old | sizes)
    (directory / "generation_config.json").unlink(missing_ok=True)
    tokens = torch.randint(sizes["vocab_size"], (23,), generator=generator).tolist()
    write_expected("qwen2", tokens, logits=logits_of(model_of(Qwen2Config, Qwen2ForCausalLM, sizes, weights), tokens))


class Blocks:
    """Tensors of every type, with values of about 1.2 / √256."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def __call__(self, kind, shape):
        """The bytes of the rows, and what they decode to."""
        kinds = gguf.GGMLQuantizationType
        scales = {kinds.Q4_K: (3e-4, 2.4e-3), kinds.Q5_K: (1.5e-4, 2.4e-3), kinds.Q6_K: (6e-5,)}.get(kind)
        if scales is None:
            values = self.random.normal(0.0, 0.08, shape).astype(np.float32)
            encoded = gguf.quants.quantize(values, kind)
        else:  # the package has no encoder for these
            length, size = gguf.GGML_QUANT_SIZES[kind]
            blocks = self.random.integers(0, 256, (shape[0] * shape[1] // length, size), dtype=np.uint8)
            for i, scale in enumerate(scales):
                place = 208 if kind is kinds.Q6_K else 2 * i
                halves = (scale * self.random.uniform(0.7, 1.3, len(blocks))).astype(np.float16)
                blocks[:, place : place + 2] = halves.view(np.uint8).reshape(-1, 2)
            encoded = blocks.reshape(shape[0], -1)
        return encoded, gguf.quants.dequantize(encoded, kind)


def write_mixed():
    kinds = gguf.GGMLQuantizationType
    # As in SmolLM's vocabulary, some bytes have no token.
    tokens, merges = learn([byte_characters()[byte] for byte in (*range(10, 11), *range(32, 127))], MERGES)
    texts = CHATML_SPECIAL + tokens
    sizes = {
        "vocab_size": len(texts) + 2,
        "hidden_size": 256,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        "tie_word_embeddings": True,
        "max_position_embeddings": 192,
    }
    hidden, inner, head = sizes["hidden_size"], sizes["intermediate_size"], sizes["head_dim"]
    queries, keys = sizes["num_attention_heads"] * head, sizes["num_key_value_heads"] * head
    blocks, stored, weights = Blocks(20261122), [], {}

    def add(name, hugging_face, kind, shape):
        encoded, values = blocks(kind, shape)
        stored.append((name, encoded, kind))
        weights[hugging_face] = torch.from_numpy(values.copy())

    def add_norm(name, hugging_face):
        values = blocks.random.normal(1.0, 0.3, hidden).astype(np.float32)
        stored.append((name, values, kinds.F32))
        weights[hugging_face] = torch.from_numpy(values)

    layers = [
        (kinds.Q4_K, kinds.Q5_K, kinds.Q6_K, kinds.Q4_1, kinds.Q4_0, kinds.Q8_0, kinds.F16),
        (kinds.Q6_K, kinds.Q4_K, kinds.Q5_K, kinds.Q8_0, kinds.BF16, kinds.F32, kinds.Q4_1),
    ]
    add("token_embd.weight", "model.embed_tokens.weight", kinds.Q4_K, (sizes["vocab_size"], hidden))
    for layer, types in enumerate(layers):
        ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
        add_norm(ours + "attn_norm.weight", theirs + "input_layernorm.weight")
        matrices = [
            ("attn_q", "self_attn.q_proj", (queries, hidden)),
            ("attn_k", "self_attn.k_proj", (keys, hidden)),
            ("attn_v", "self_attn.v_proj", (keys, hidden)),
            ("attn_output", "self_attn.o_proj", (hidden, queries)),
            ("ffn_gate", "mlp.gate_proj", (inner, hidden)),
            ("ffn_up", "mlp.up_proj", (inner, hidden)),
            ("ffn_down", "mlp.down_proj", (hidden, inner)),
        ]
        for (name, hugging_face, shape), kind in zip(matrices, types, strict=True):
            add(f"{ours}{name}.weight", f"{theirs}{hugging_face}.weight", kind, shape)
        add_norm(ours + "ffn_norm.weight", theirs + "post_attention_layernorm.weight")
    add_norm("output_norm.weight", "model.norm.weight")

    writer = gguf.GGUFWriter(OUTPUT / "mixed.gguf", "llama")
    writer.add_context_length(sizes["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(sizes["num_hidden_layers"])
    writer.add_feed_forward_length(inner)
    writer.add_head_count(sizes["num_attention_heads"])
    writer.add_head_count_kv(sizes["num_key_value_heads"])
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(sizes["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(texts + ["[PAD0]", "[PAD1]"])
    writer.add_token_types([3] * len(CHATML_SPECIAL) + [1] * len(tokens) + [5, 5])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    for key, text in {"bos": "<|im_start|>", "eos": "<|im_end|>", "pad": "<|im_end|>", "unk": "<|endoftext|>"}.items():
        getattr(writer, f"add_{key}_token_id")(texts.index(text))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML_TEMPLATE)
    for name, encoded, kind in stored:
        floats = {kinds.F32: np.float32, kinds.F16: np.float16}.get(kind)
        data = encoded if floats is None else encoded.view(floats)
        writer.add_tensor(name, data, raw_dtype=kind if floats is None else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    def logits(weights):
        return logits_of(model_of(LlamaConfig, LlamaForCausalLM, sizes, weights), ids)

    ids = np.random.default_rng(7).integers(0, sizes["vocab_size"], 29).tolist()
    turned = {key: to_halves(value, head) if ".q_proj" in key or ".k_proj" in key else value for key, value in weights.items()}
    write_expected("mixed", ids, logits=logits(turned), as_stored=logits(weights))


def to_halves(rows, head_dim):
    """Rows in llama.cpp's order, (2i, 2i + 1), to transformers', (i, i + head_dim / 2)."""
    return rows.reshape(-1, head_dim // 2, 2, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape).contiguous()


def main():
    torch.set_num_threads(1)
    OUTPUT.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(20261122)
    write_llama(generator)
    write_qwen2(generator)
    write_mixed()


if __name__ == "__main__":
    main()
