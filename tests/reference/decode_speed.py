#!/usr/bin/env python3
"""Measures how fast llama.cpp decodes with a model far larger than any cache, and compares it with what the device card predicts.

    python3 tests/reference/decode_speed.py --bench target/release/bench --modules target/llama-cpp [--threads 2]

Needs: pip install gguf==0.19.0 numpy, and Node with `npm install --ignore-scripts --prefix target/llama-cpp node-llama-cpp@3.22.1`,
whose llama.cpp picks its instructions at run time. By hand: it writes a file of 3.2 GB with made-up weights to a temporary
directory, and removes it.

The prediction is that of `pipeline/src/fit/traffic.rs`: bytes of the weights and of the keys and values before the token over the
bandwidth, and half a millisecond. Bandwidth and decoding are measured in turn, for both change with what else the machine does; the
medians are compared. Exit status: 0 within 30 %, 1 not.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KEY_HEADS, HEAD_DIM, VOCAB = 2048, 6144, 32, 16, 4, 128, 32_000
TOKEN_OVERHEAD_S = 0.5e-3
# Those of decode_speed.mjs.
PROMPT, PREDICTED = 16, 48
ROUNDS = 5


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


def number(*command):
    """What a program prints: one number."""
    return float(subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, required=True, help="our `bench`, which measures the bandwidth of the memory")
    parser.add_argument("--modules", type=Path, required=True, help="the directory that has node-llama-cpp")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    script = Path(__file__).with_suffix(".mjs")
    bandwidths, speeds = [], []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.gguf"
        size = write(path)
        for _ in range(ROUNDS):
            bandwidths.append(number(arguments.bench, "--memory"))
            speeds.append(number("node", script, arguments.modules, path, arguments.threads))
            print(f"{bandwidths[-1]:.1f} GB/s, {speeds[-1]:.2f} tokens/s", flush=True)
    cache = LAYERS * 2 * KEY_HEADS * HEAD_DIM * 2 * (PROMPT + PREDICTED / 2)
    bandwidth, measured = statistics.median(bandwidths), statistics.median(speeds)
    predicted = 1 / ((size + cache) / (bandwidth * 1e9) + TOKEN_OVERHEAD_S)
    print(f"{size / 1e9:.2f} GB: predicted {predicted:.2f} tokens/s at {bandwidth:.1f} GB/s, measured {measured:.2f}: {measured / predicted:.2f} of it")
    return 0 if abs(predicted / measured - 1) <= 0.3 else 1


if __name__ == "__main__":
    sys.exit(main())
