#!/usr/bin/env python3
"""Loads a GGUF file with transformers, which decodes its weights to float32, and compares with what Limbeck says.

    python3 tests/reference/check_gguf_transformers.py MODEL.gguf EXPECTED.json

Needs: pip install torch==2.15.0 transformers==5.23.0 accelerate==1.15.0 gguf==0.19.0. EXPECTED.json is that of `check_gguf.py`; used are
`prompts` with `log_probs_last`, and `texts` with `text_ids`. Nothing is downloaded.

transformers has the vocabulary and the merges from the file but takes every pre-tokenizer for GPT-2's: that of SmolLM is set
as its `tokenizer.json` has it, others are not compared.

--control checks the check: with the rows of queries and keys of one layer in llama.cpp's order, log-probabilities must differ.

Exit status: 0 all agree, 1 something differs (one line each on stderr), 2 bad usage.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import gguf
import torch
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer


def largest_difference(model, expected):
    worst = 0.0
    for prompt, ours in zip(expected["prompts"], expected["log_probs_last"]):
        with torch.no_grad():
            theirs = model(torch.tensor([prompt]), use_cache=False).logits[0, -1].double().log_softmax(-1)
        worst = max(worst, (theirs - torch.tensor(ours, dtype=torch.float64)).abs().max().item())
    return worst


def swap_rows(model):
    """One layer's queries and keys as llama.cpp has them."""
    layer, head_dim = model.model.layers[len(model.model.layers) // 2].self_attn, model.config.head_dim
    for projection in (layer.q_proj, layer.k_proj):
        rows = projection.weight.data
        projection.weight.data = rows.reshape(-1, 2, head_dim // 2, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def differences(arguments):
    expected = json.loads(arguments.expected.read_text(encoding="utf-8"))
    place = {"gguf_file": arguments.gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(arguments.gguf.parent, **place)
    pre = gguf.GGUFReader(arguments.gguf).fields["tokenizer.ggml.pre"].contents()
    if pre == "smollm":
        digits, byte_level = Digits(individual_digits=True), ByteLevel(add_prefix_space=False)
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence([digits, byte_level])
    else:
        expected["texts"] = []
    different = []
    for text, ours in zip(expected["texts"], expected["text_ids"]):
        theirs = tokenizer.encode(text, add_special_tokens=False)
        if theirs != ours:
            different.append(f"tokens: {text!r}: transformers says {theirs}, we say {ours}")
    print(f"tokens: {len(expected['texts'])} texts, {len(different)} differ")
    yield from different[:5]
    model = AutoModelForCausalLM.from_pretrained(arguments.gguf.parent, **place, dtype=torch.float32).eval()
    worst = largest_difference(model, expected)
    print(f"log-probabilities: {len(expected['prompts'])} prompts, largest difference {worst:.3g}")
    if not worst <= arguments.tolerance:
        yield f"log-probabilities: the largest difference is {worst:.3g}, tolerance {arguments.tolerance:g}"
    if arguments.control:
        swap_rows(model)
        worst = largest_difference(model, expected)
        print(f"control: with swapped rows the largest difference is {worst:.3g}")
        if worst <= 10 * arguments.tolerance:
            yield "control: with the rows of queries and keys swapped it agrees, so the check sees nothing"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf", type=Path)
    parser.add_argument("expected", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of a log-probability")
    parser.add_argument("--control", action="store_true", help="check that swapped rows are found out")
    arguments = parser.parse_args()
    found = list(differences(arguments))
    for line in found:
        print(f"{arguments.gguf}: {line}", file=sys.stderr)
    print(f"{arguments.gguf}: {'differs' if found else 'agrees'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
