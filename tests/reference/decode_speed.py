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

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from made_up_gguf import Shape, write  # noqa: E402

SHAPE = Shape(hidden=2048, intermediate=6144, layers=32, heads=16, key_heads=4, head_dim=128, vocab=32_000, context=4096)
TOKEN_OVERHEAD_S = 0.5e-3
PROMPT, PREDICTED = 16, 48
ROUNDS = 5


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
        size = write(path, SHAPE, np.float16)
        for _ in range(ROUNDS):
            bandwidths.append(number(arguments.bench, "--memory"))
            speeds.append(number("node", script, arguments.modules, path, arguments.threads, PROMPT, PREDICTED))
            print(f"{bandwidths[-1]:.1f} GB/s, {speeds[-1]:.2f} tokens/s", flush=True)
    cache = SHAPE.layers * 2 * SHAPE.key_heads * SHAPE.head_dim * 2 * (PROMPT + PREDICTED / 2)
    bandwidth, measured = statistics.median(bandwidths), statistics.median(speeds)
    predicted = 1 / ((size + cache) / (bandwidth * 1e9) + TOKEN_OVERHEAD_S)
    print(f"{size / 1e9:.2f} GB: predicted {predicted:.2f} tokens/s at {bandwidth:.1f} GB/s, measured {measured:.2f}: {measured / predicted:.2f} of it")
    return 0 if abs(predicted / measured - 1) <= 0.3 else 1


if __name__ == "__main__":
    sys.exit(main())
