#!/usr/bin/env python3
"""Builds an ONNX model from a Hugging Face directory of ours, runs it, and compares it with what Limbeck says of the model.

    python check_onnx.py DIRECTORY EXPECTED.json OUT

Needs: pip install onnxruntime==1.31.1 onnxruntime-genai==0.18.0 onnx==1.23.2 onnx-ir transformers==5.23.0 torch==2.15.0

onnxruntime-genai's model builder writes OUT/genai in float32 for the CPU; onnxruntime-genai then runs it. OUT/transformers.js is
the same graph in the layout that transformers.js opens, for `check_transformers_js.mjs`.

EXPECTED.json is that of `check_transformers.py`; of it prompts, log_probs_last, greedy, end_ids, texts, text_ids, chats and
tolerance count here. Exit 0: all agree. Exit 1: something differs, and a line says what. Exit 2: bad usage.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import onnx
import onnxruntime_genai as genai


def build(directory, target):
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", directory, "-o", target / "genai"]
    command += ["-p", "fp32", "-e", "cpu", "-c", target / "cache"]
    with open(target / "builder.log", "w", encoding="utf-8") as log:
        subprocess.run(list(map(str, command)), check=True, stdout=log, stderr=subprocess.STDOUT)


def write_transformers_js(directory, target):
    """One file, and sizes of the cache as numbers: transformers.js takes a name for 0."""
    with open(Path(directory) / "config.json", encoding="utf-8") as file:
        config = json.load(file)
    model = onnx.load(target / "genai" / "model.onnx")
    for value in [*model.graph.input, *model.graph.output]:
        if value.name.startswith(("past_key_values", "present")):
            dimensions = value.type.tensor_type.shape.dim
            dimensions[1].dim_value, dimensions[3].dim_value = config["num_key_value_heads"], config["head_dim"]
    layout = target / "transformers.js" / "model"
    (layout / "onnx").mkdir(parents=True)
    onnx.save(model, layout / "onnx" / "model.onnx", save_as_external_data=False)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(directory) / name, layout / name)


def generator(model, prompt, length):
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(do_sample=False, max_length=len(prompt) + length)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(np.array(prompt, dtype=np.int32))
    return generator


def check_log_probs(model, expected):
    worst = 0.0
    for index, (prompt, ours) in enumerate(zip(expected["prompts"], expected["log_probs_last"], strict=True)):
        logits = np.array(generator(model, prompt, 1).get_logits(), dtype=np.float64).reshape(-1, len(ours))[-1]
        logits -= logits.max()
        difference = np.abs(logits - np.log(np.exp(logits).sum()) - np.array(ours)).max()
        worst = max(worst, difference)
        if not difference <= expected["tolerance"]:
            yield f"log-probabilities after prompt {index} differ by {difference:.3g}"
    print(f"log-probabilities: {len(expected['prompts'])} prompts, largest difference {worst:.2e}")


def check_greedy(model, expected):
    """Up to the first end token, behind which it does not go."""
    count = 0
    for index, (prompt, ours) in enumerate(zip(expected["prompts"], expected["greedy"], strict=True)):
        ends = [place for place, token in enumerate(ours) if token in expected["end_ids"]]
        ours = ours[: min(ends, default=len(ours))]
        run = generator(model, prompt, len(ours) + 1)
        while not run.is_done() and len(run.get_sequence(0)) < len(prompt) + len(ours):
            run.generate_next_token()
        theirs = list(map(int, run.get_sequence(0)[len(prompt) :]))
        count += len(ours)
        if theirs[: len(ours)] != ours:
            yield f"greedy continuation {index}: {theirs}, ours is {ours}"
    print(f"greedy: {count} tokens")


def check_tokens(tokenizer, expected):
    wrong = [text for text, ids in zip(expected["texts"], expected["text_ids"]) if list(tokenizer.encode(text)) != ids]
    if wrong:
        yield f"tokens of {len(wrong)} of {len(expected['texts'])} texts differ, the first is {wrong[0]!r}"
    print(f"tokens: {len(expected['texts'])} texts")


def check_chats(tokenizer, expected):
    for index, chat in enumerate(expected["chats"]):
        theirs = tokenizer.apply_chat_template(json.dumps(chat["messages"]), add_generation_prompt=True)
        if theirs != chat["text"]:
            yield f"chat {index} is rendered {theirs!r}, ours is {chat['text']!r}"
    print(f"chats: {len(expected['chats'])}")


def differences(directory, expected, target):
    build(directory, target)
    write_transformers_js(directory, target)
    model = genai.Model(str(target / "genai"))
    tokenizer = genai.Tokenizer(model)
    yield from check_log_probs(model, expected)
    yield from check_greedy(model, expected)
    yield from check_tokens(tokenizer, expected)
    yield from check_chats(tokenizer, expected)


def main(arguments):
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    with open(arguments[1], encoding="utf-8") as file:
        expected = json.load(file)
    found = list(differences(arguments[0], expected, Path(arguments[2])))
    for line in found:
        print(f"onnxruntime disagrees: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
