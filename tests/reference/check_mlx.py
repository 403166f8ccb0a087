"""Opens a model directory with mlx-lm and compares it with what Limbeck says of it.

    python check_mlx.py DIRECTORY EXPECTED.json

Needs: pip install "mlx[cpu]==0.32.4" mlx-lm==0.32.2 transformers==5.24.0 (on Linux; on a Mac, mlx without the brackets).

EXPECTED.json is that of `check_transformers.py`, with the same keys; its tokenizer and chat template are transformers'. Exit 0: all agree. Exit 1: something differs, and a line says what. Exit 2: bad usage.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import mlx.core as mx
import numpy as np
from mlx_lm import load
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


def differences(directory, expected):
    model, tokenizer = load(directory)
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
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    with open(arguments[1], encoding="utf-8") as file:
        expected = json.load(file)
    found = list(differences(arguments[0], expected))
    for line in found:
        print(f"mlx-lm disagrees: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
