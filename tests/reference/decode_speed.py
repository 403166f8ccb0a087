#!/usr/bin/env python3
"""Measures how fast llama.cpp decodes with a model far larger than any cache, and compares it with what the device card predicts.

    python3 tests/reference/decode_speed.py --gb-per-s "$(bench --memory)" [--threads 2]

Needs: pip install xllamacpp==2026.10.11549 gguf==0.19.0 numpy. By hand: it writes a file of 3.2 GB with made-up weights to a
temporary directory, and removes it.

The prediction is that of `pipeline/src/fit/traffic.rs`: bytes of the weights and of the keys and values before the token over the
bandwidth, and half a millisecond. Exit status: 0 within 30 %, 1 not.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KEY_HEADS, HEAD_DIM, VOCAB = 2048, 6144, 32, 16, 4, 128, 32_000
TOKEN_OVERHEAD_S = 0.5e-3
PROMPT, PREDICTED, ROUNDS = 16, 48, 3


def shapes():
    """Matrices by their names, tied."""
    yield "token_embd", (VOCAB, HIDDEN)
    for layer in range(LAYERS):
        for name, shape in {
            "attn_q": (HEADS * HEAD_DIM, HIDDEN),
            "attn_k": (KEY_HEADS * HEAD_DIM, HIDDEN),
            "attn_v": (KEY_HEADS * HEAD_DIM, HIDDEN),
            "attn_output": (HIDDEN, HEADS * HEAD_DIM),
            "ffn_gate": (INTERMEDIATE, HIDDEN),
            "ffn_up": (INTERMEDIATE, HIDDEN),
            "ffn_down": (HIDDEN, INTERMEDIATE),
        }.items():
            yield f"blk.{layer}.{name}", shape


def write(path):
    """A Qwen3 in F16; gives the bytes of its tensors."""
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-6)
    texts = ["<|endoftext|>", "<|im_end|>", *"abcdefghijklmnopqrstuvwxyz"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts + [f"[PAD{i}]" for i in range(len(texts), VOCAB)])
    writer.add_token_types([3, 3] + [1] * 26 + [5] * (VOCAB - len(texts)))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(0)
    writer.add_add_bos_token(False)
    pool = (np.random.default_rng(0).standard_normal(1 << 22) * 0.02).astype(np.float16)
    size = 0
    for name, shape in shapes():
        values = np.resize(pool, shape)
        writer.add_tensor(f"{name}.weight", values)
        size += values.nbytes
    norms = {"output_norm": HIDDEN}
    for layer in range(LAYERS):
        norms |= {f"blk.{layer}.attn_norm": HIDDEN, f"blk.{layer}.ffn_norm": HIDDEN}
        norms |= {f"blk.{layer}.attn_q_norm": HEAD_DIM, f"blk.{layer}.attn_k_norm": HEAD_DIM}
    for name, length in norms.items():
        writer.add_tensor(f"{name}.weight", np.ones(length, np.float32))
        size += 4 * length
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return size


def measure(path, threads):
    """Tokens a second of llama.cpp, of each round."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.fit_params = 512, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    body = {"prompt": list(range(2, 2 + PROMPT)), "n_predict": PREDICTED, "ignore_eos": True, "cache_prompt": False}
    for _ in range(ROUNDS):
        answer = server.handle_completions({**body, "temperature": -1.0})
        answer = json.loads(answer) if isinstance(answer, (bytes, str)) else answer
        yield answer["timings"]["predicted_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb-per-s", type=float, required=True, help="bandwidth of the memory, as `bench --memory` prints it")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.gguf"
        size = write(path)
        cache = LAYERS * 2 * KEY_HEADS * HEAD_DIM * 2 * (PROMPT + PREDICTED / 2)
        predicted = 1 / ((size + cache) / (arguments.gb_per_s * 1e9) + TOKEN_OVERHEAD_S)
        measured = list(measure(path, arguments.threads))
    best = max(measured)
    print(f"{size / 1e9:.2f} GB: predicted {predicted:.2f} tokens/s at {arguments.gb_per_s:.1f} GB/s")
    print(f"measured {', '.join(f'{speed:.2f}' for speed in measured)}: the best is {best / predicted:.2f} of the prediction")
    return 0 if abs(predicted / best - 1) <= 0.3 else 1


if __name__ == "__main__":
    sys.exit(main())
