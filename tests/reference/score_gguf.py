#!/usr/bin/env python3
"""Held-out bits per byte of GGUF files, as llama.cpp computes them.

    python3 tests/reference/score_gguf.py --texts data/tiny/valid.parquet [--documents 20] MODEL.gguf...

Needs: pip install xllamacpp==2026.10.11549 gguf==0.19.0 pyarrow==26.0.1

Every token of the first texts is scored, the token that ends one too, a begin token before the first: what `evaluate` scores,
whose numbers for a model in F32 these are. llama.cpp runs in its exact mode (cache in 32-bit floats, no flash attention); for files in
Q4_0 and Q8_0 its operators still round the inputs of matrices to 8 bits, as on a device. Texts are cut at the model's longest
sequence, as training cuts them.

Prints one JSON object a file: path, nats, tokens, bytes, bits_per_byte.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import gguf
import pyarrow.parquet

from check_gguf import Client


def longest_sequence(path):
    reader = gguf.GGUFReader(path)
    architecture = reader.fields["general.architecture"].contents()
    return int(reader.fields[f"{architecture}.context_length"].contents()), len(reader.fields["tokenizer.ggml.tokens"].data)


def log_prob_of(client, ids, vocab_size):
    """The log-probability of the last of `ids` after the others; what llama.cpp has in its cache is used."""
    prompt, target = ids[:-1], ids[-1]
    # Without bias, so that the cache goes on; an end token that it samples would hide the probabilities, hence the bias.
    body = {"prompt": prompt, "n_predict": 1, "n_probs": vocab_size, "temperature": -1.0, "cache_prompt": True}
    answer = client.server.handle_completions({**body, "logit_bias": [[client.plain_token, 1e6]]})
    answer = json.loads(answer) if isinstance(answer, (bytes, str)) else answer
    if "choices" not in answer:
        sys.exit(f"llama.cpp refused a prompt of {len(prompt)} tokens: {answer}")
    entries = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    return next(entry["logprob"] for entry in entries if entry["id"] == target)


def score(path, texts):
    length, vocab_size = longest_sequence(path)
    client = Client(path, length + 16)
    (end,) = client.tokenize("<|endoftext|>")
    nats, tokens = 0.0, 0
    for text in texts:
        ids = [end, *client.tokenize(text, parse_special=False), end]
        for start in range(0, len(ids) - 1, length):
            piece = ids[start : start + length + 1]
            for last in range(2, len(piece) + 1):
                nats -= log_prob_of(client, piece[:last], vocab_size)
                tokens += 1
    size = sum(len(text.encode()) for text in texts)
    return {"path": str(path), "nats": nats, "tokens": tokens, "bytes": size, "bits_per_byte": nats / math.log(2) / size}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.gguf")
    parser.add_argument("--texts", type=Path, required=True, help="a .parquet file with a column `text`")
    parser.add_argument("--documents", type=int, default=20, help="texts that are scored")
    arguments = parser.parse_args()
    texts = pyarrow.parquet.read_table(arguments.texts, columns=["text"])["text"].to_pylist()[: arguments.documents]
    for model in arguments.models:
        print(json.dumps(score(model, texts)), flush=True)


if __name__ == "__main__":
    main()
