#!/usr/bin/env python3
"""Held-out bits per byte of GGUF files, as llama.cpp computes them.

    python3 tests/reference/score_gguf.py --modules target/llama-cpp --texts data/tiny/valid.parquet [--documents 20] MODEL.gguf...

Needs: pip install pyarrow==26.0.1, and Node with `npm install --ignore-scripts --prefix target/llama-cpp node-llama-cpp@3.22.1`.

Every token of the first texts is scored, the token that ends one too, a begin token before the first: what `evaluate` scores,
whose numbers for a model in F32 these are. llama.cpp runs in its exact mode (cache in 32-bit floats, no flash attention); for files in
Q4_0 and Q8_0 its operators still round the inputs of matrices to 8 bits, as on a device. Texts are cut at the model's longest
sequence, as training cuts them.

Prints one JSON object a file: path, nats, tokens, bytes, bits_per_byte.
"""

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path

import pyarrow.parquet


def score(modules, path, texts):
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(texts, file)
        file.flush()
        script = Path(__file__).with_suffix(".mjs")
        command = ["node", str(script), str(modules), str(path), file.name]
        scored = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    size = sum(len(text.encode()) for text in texts)
    return {"path": str(path), **scored, "bytes": size, "bits_per_byte": scored["nats"] / math.log(2) / size}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--modules", type=Path, required=True, help="the directory that has node-llama-cpp")
    parser.add_argument("--texts", type=Path, required=True, help="parquet file with a column text")
    parser.add_argument("--documents", type=int, default=20)
    arguments = parser.parse_args()
    column = pyarrow.parquet.read_table(arguments.texts, columns=["text"])["text"]
    texts = column.to_pylist()[: arguments.documents]
    for path in arguments.models:
        print(json.dumps(score(arguments.modules, path, texts)), flush=True)


if __name__ == "__main__":
    main()
