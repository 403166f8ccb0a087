"""Opens a model directory with mlx-lm and compares it with what Limbeck says of it.

    python check_mlx.py DIRECTORY EXPECTED.json [HUGGING_FACE_DIRECTORY]

mlx-lm computes in 32 bits here, whatever the directory says. One for MLX, with its numbers in 16 bits, is opened as it is as
well, and the KL of its distributions is held to kl_tolerance; and it must hold the tensors that `mlx_lm.convert --quantize
--dtype float16` makes of HUGGING_FACE_DIRECTORY, bit for bit.

Needs: pip install "mlx[cpu]==0.32.4" mlx-lm==0.32.2 transformers==5.24.0 (on Linux; on a Mac, mlx without the brackets).

EXPECTED.json is that of `check_transformers.py`, with the same keys, and kl_tolerance; tokenizer and chat template are
transformers'. Exit 0: all agree. Exit 1: something differs, and a line says what. Exit 2: bad usage.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import mlx.core as mx
import numpy as np
from mlx_lm import convert, load
from mlx_lm.models.cache import make_prompt_cache

from texts import comparable


def log_probs(model, tokens, cache=None):
    """Of the token after `tokens`, in 64 bits: [vocab]."""
    logits = np.array(model(mx.array([tokens]), cache=cache)[0, -1].astype(mx.float32), dtype=np.float64)
    logits -= logits.max()
    return logits - np.log(np.exp(logits).sum())


def continue_greedily(model, prompt, length):
    tokens, cache, ids = [], make_prompt_cache(model), prompt
    while len(tokens) < length:
        ids = [int(log_probs(model, ids, cache).argmax())]
        tokens += ids
    return tokens


def check_model(model, expected):
    worst = 0.0
    for index, (prompt, ours) in enumerate(zip(expected["prompts"], expected["log_probs_last"], strict=True)):
        difference = np.abs(log_probs(model, prompt) - np.array(ours)).max()
        worst = max(worst, difference)
        if not difference <= expected["tolerance"]:
            yield f"log-probabilities after prompt {index} differ by {difference:.3g}"
    print(f"log-probabilities: {len(expected['prompts'])} prompts, largest difference {worst:.2e}")
    for index, (prompt, ours) in enumerate(zip(expected["prompts"], expected["greedy"], strict=True)):
        theirs = continue_greedily(model, prompt, len(ours))
        if theirs != ours:
            place = next(i for i, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1])
            yield f"greedy continuation {index} differs from token {place} on"
    print(f"greedy: {sum(map(len, expected['greedy']))} tokens")


def check_sixteen_bits(model, expected):
    """As a user runs it."""
    worst = 0.0
    for index, (prompt, ours) in enumerate(zip(expected["prompts"], expected["log_probs_last"], strict=True)):
        ours = np.array(ours)
        kl = (np.exp(ours) * (ours - log_probs(model, prompt))).sum()
        worst = max(worst, kl)
        if not kl <= expected["kl_tolerance"]:
            yield f"KL after prompt {index} is {kl:.3g} in 16 bits, tolerance {expected['kl_tolerance']:g}"
    print(f"in 16 bits: largest KL {worst:.2e}")


def tensors_of(directory):
    files = sorted(Path(directory).glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in mx.load(str(file)).items()}


def check_conversion(directory, quantization, original):
    """The tensors that mlx-lm itself makes of the model."""
    bits, group_size = quantization["bits"], quantization["group_size"]
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "converted"
        convert(original, str(target), quantize=True, q_bits=bits, q_group_size=group_size, dtype="float16")
        theirs, ours = tensors_of(target), tensors_of(directory)
    if sorted(theirs) != sorted(ours):
        yield f"tensors {sorted(set(theirs) ^ set(ours))} are in one of both alone"
        return
    equal, words, packed = 0, 0, 0
    for name, tensor in theirs.items():
        if tensor.dtype != ours[name].dtype or tensor.shape != ours[name].shape:
            yield f"{name} is {tensor.dtype} {tensor.shape}, ours is {ours[name].dtype} {ours[name].shape}"
            continue
        same = np.array(tensor).view(np.uint8) == np.array(ours[name]).view(np.uint8)
        if tensor.dtype == mx.uint32:
            packed += 1
            words += tensor.size
            equal += int((np.array(tensor) == np.array(ours[name])).sum())
        if not same.all():
            yield f"{name}: {int((~same).sum())} of {same.size} bytes differ from mlx_lm.convert's"
    print(f"mlx_lm.convert: {len(theirs)} tensors, {packed} packed, {equal} of {words} words equal")


def differences(directory, expected, original=None):
    model, tokenizer = load(directory)
    with open(Path(directory) / "config.json", encoding="utf-8") as file:
        quantization = json.load(file).get("quantization")
    if quantization:
        yield from check_sixteen_bits(model, expected)
        if original:
            yield from check_conversion(directory, quantization, original)
    model.set_dtype(mx.float32)
    yield from check_model(model, expected)
    texts = comparable(directory, expected["texts"], expected["text_ids"])
    wrong = [text for text, ids in texts if tokenizer.encode(text) != ids]
    if wrong:
        yield f"tokens of {len(wrong)} texts differ, the first is {wrong[0]!r}"
    print(f"tokens: {len(texts)} texts")
    for index, chat in enumerate(expected["chats"]):
        theirs = tokenizer.apply_chat_template(chat["messages"], tokenize=False, add_generation_prompt=True)
        if theirs != chat["text"]:
            yield f"chat {index}: Limbeck renders {chat['text']!r}, transformers {theirs!r}"
    print(f"chat template: {len(expected['chats'])} chats")


def main(arguments):
    if len(arguments) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    with open(arguments[1], encoding="utf-8") as file:
        expected = json.load(file)
    found = list(differences(arguments[0], expected, *arguments[2:]))
    for line in found:
        print(f"mlx-lm disagrees: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
