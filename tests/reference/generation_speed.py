#!/usr/bin/env python3
"""Generation beside llama.cpp: one stream, 28 M parameters in F32, from the same GGUF file.

    python3 tests/reference/generation_speed.py --generate target/release/generate --modules target/llama-cpp [--threads 2]

Needs what decode_speed.py needs, and `pip install xllamacpp==2026.10.11549`. By hand: it writes a file of 111 MB with made-up
weights, of the shape of `bench --model 28m`, to a temporary directory. Ours is the difference between a long and a short answer, so that starting and reading the prompt are no
part of it. llama.cpp's is that of its faster client: node-llama-cpp has instructions that xllamacpp does not, but waits for
JavaScript after each token, which a small model notices; xllamacpp's server has a clock of its own. All in turn; prints each round,
and the ratio of the medians last.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from decode_speed import number  # noqa: E402
from made_up_gguf import Shape, write  # noqa: E402

SHAPE = Shape(hidden=512, intermediate=1408, layers=8, heads=8, key_heads=4, head_dim=64, vocab=8192, context=512)
PROMPT_TEXT = "acegikmoqsuwybdf"  # A token a letter.
PROMPT = len(PROMPT_TEXT)
SHORT, LONG = 16, 400


def seconds(arguments, model, count):
    """Of a greedy answer of `count` tokens, from the start of the program."""
    command = [arguments.generate, "--from", model, "--prompt", PROMPT_TEXT, "--temperature", "0"]
    environment = os.environ | {"RAYON_NUM_THREADS": str(arguments.threads)}
    started = time.perf_counter()
    said = subprocess.run([*command, "--max-new-tokens", str(count)], check=True, capture_output=True, text=True, env=environment)
    return time.perf_counter() - started, said.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generate", type=Path, required=True, help="ours")
    parser.add_argument("--modules", type=Path, required=True, help="the directory that has node-llama-cpp")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    ours, theirs = [], {"node-llama-cpp": [], "xllamacpp": []}
    folder = Path(__file__).parent
    clients = {
        "node-llama-cpp": ["node", folder / "decode_speed.mjs", arguments.modules],
        "xllamacpp": [sys.executable, folder / "decode_speed_xllamacpp.py"],
    }
    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory) / "model.gguf"
        write(model, SHAPE, np.float32)
        for _ in range(arguments.rounds):
            (short, _), (long, said) = seconds(arguments, model, SHORT), seconds(arguments, model, LONG)
            if said.count("[PAD") < LONG // 2:
                sys.exit(f"the answer ended early: {said!r}")
            ours.append((LONG - SHORT) / (long - short))
            for client, command in clients.items():
                theirs[client].append(number(*command, model, arguments.threads, PROMPT, LONG))
            said = ", ".join(f"{client} {speeds[-1]:.0f}" for client, speeds in theirs.items())
            print(f"limbeck {ours[-1]:.0f}, {said} tokens/s", flush=True)
    own, other = statistics.median(ours), max(map(statistics.median, theirs.values()))
    print(f"limbeck {own:.0f}, llama.cpp {other:.0f} tokens/s: {own / other:.2f}")


if __name__ == "__main__":
    main()
