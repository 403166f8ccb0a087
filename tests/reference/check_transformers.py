"""Opens a model directory with transformers and compares it with what Limbeck says of it.

    python check_transformers.py DIRECTORY EXPECTED.json

EXPECTED.json, which `tests/clients.rs` writes and `check_gguf.py` reads too (all keys required, any list may be empty):

    prompts         [[id, ...], ...]
    log_probs_last  for each prompt, the natural log-probability of every next token, [vocab]
    greedy          for each prompt, the continuation without the prompt; end tokens do not end it
    texts           ["...", ...]
    text_ids        for each text, its tokens
    plain_texts, plain_text_ids   the same of texts with special tokens in them, which are taken for text
    chats           [{"messages": [{"role": ..., "content": ...}, ...], "text": "..."}, ...], each rendered up to where
                    the assistant begins to speak
    tolerance       largest absolute difference of two log-probabilities

Prints one line a check. Exit 0: all agree. Exit 1: one does not, and its line says where. Exit 2: bad usage.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from texts import comparable

KEYS = "prompts log_probs_last greedy texts text_ids plain_texts plain_text_ids chats tolerance".split()


class Disagreement(Exception):
    """What transformers makes of the directory is not what Limbeck makes of it."""


def open_model(directory):
    """In float32 and without kernels of its own choice. A tensor too many or too few is not just a warning here."""
    model, report = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, local_files_only=True
    )
    problems = {key: sorted(map(str, names)) for key, names in report.items() if names}
    if problems:
        raise Disagreement(f"loading `model.safetensors`: {problems}")
    return model.eval()


def compare(what, index, ours, theirs):
    """Equal, or the place of the first difference."""
    if ours == theirs:
        return
    shorter = min(len(ours), len(theirs))
    place = next((i for i in range(shorter) if ours[i] != theirs[i]), shorter)
    raise Disagreement(
        f"{what} {index} differs from place {place} on: "
        f"Limbeck {ours[place : place + 12]!r} (length {len(ours)}), "
        f"transformers {theirs[place : place + 12]!r} (length {len(theirs)})"
    )


def pairs(expected, inputs, outputs):
    if len(expected[inputs]) != len(expected[outputs]):
        counts = f"{len(expected[inputs])} and {len(expected[outputs])}"
        raise Disagreement(f"`{inputs}` and `{outputs}` have {counts} entries, must have as many")
    return enumerate(zip(expected[inputs], expected[outputs], strict=True))


def check_log_probs(model, expected):
    worst = 0.0
    for index, (prompt, ours) in pairs(expected, "prompts", "log_probs_last"):
        with torch.no_grad():
            theirs = model(torch.tensor([prompt])).logits[0, -1].double().log_softmax(-1)
        if len(ours) != len(theirs):
            raise Disagreement(f"log-probabilities of prompt {index}: Limbeck has {len(ours)}, not {len(theirs)}")
        difference = (torch.tensor(ours, dtype=torch.float64) - theirs).abs()
        # Written so that a NaN fails.
        if not difference.max() <= expected["tolerance"]:
            token = difference.nan_to_num(torch.inf).argmax().item()
            raise Disagreement(
                f"log-probability of token {token} after prompt {index}: Limbeck {ours[token]}, "
                f"transformers {theirs[token].item()}, tolerance {expected['tolerance']}"
            )
        worst = max(worst, difference.max().item())
    return f"{len(expected['prompts'])} prompts, largest difference {worst:.2e}, tolerance {expected['tolerance']:.0e}"


def check_greedy(model, expected):
    tokens = 0
    for index, (prompt, ours) in pairs(expected, "prompts", "greedy"):
        compare("greedy continuation", index, ours, continue_greedily(model, prompt, len(ours)))
        tokens += len(ours)
    return f"{tokens} tokens"


def continue_greedily(model, prompt, length):
    """The most probable token, `length` times, with transformers' cache; whatever generation_config.json says."""
    tokens, cache, ids = [], None, torch.tensor([prompt])
    while len(tokens) < length:
        with torch.no_grad():
            output = model(ids, past_key_values=cache, use_cache=True)
        cache, ids = output.past_key_values, output.logits[:, -1:].argmax(-1)
        tokens.append(ids.item())
    return tokens


def check_tokens(tokenizer, directory, expected):
    texts = comparable(directory, expected["texts"], expected["text_ids"])
    for index, (text, ours) in enumerate(texts):
        compare("tokens of text", index, ours, tokenizer(text)["input_ids"])
    plain = comparable(directory, expected["plain_texts"], expected["plain_text_ids"])
    for index, (text, ours) in enumerate(plain):
        theirs = tokenizer(text, split_special_tokens=True)["input_ids"]
        compare("tokens of text with special tokens as text", index, ours, theirs)
    return f"{len(texts)} texts, {len(plain)} with special tokens as text"


def check_chats(tokenizer, expected):
    for index, chat in enumerate(expected["chats"]):
        theirs = tokenizer.apply_chat_template(chat["messages"], tokenize=False, add_generation_prompt=True)
        compare("text of chat", index, chat["text"].encode(), theirs.encode())
    return f"{len(expected['chats'])} chats"


def check(directory, expected):
    model = open_model(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    print(f"log-probabilities agree: {check_log_probs(model, expected)}")
    print(f"greedy continuations agree: {check_greedy(model, expected)}")
    print(f"tokens agree: {check_tokens(tokenizer, directory, expected)}")
    print(f"chat texts agree: {check_chats(tokenizer, expected)}")


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    directory, path = arguments
    with open(path, encoding="utf-8") as file:
        expected = json.load(file)
    if missing := [key for key in KEYS if key not in expected]:
        print(f"`{path}` lacks {missing}", file=sys.stderr)
        return 2
    try:
        check(directory, expected)
    except Disagreement as disagreement:
        print(f"transformers disagrees: {disagreement}", file=sys.stderr)
        return 1
    except Exception as error:  # whatever transformers raises on a directory that it cannot open
        print(f"transformers failed on `{directory}`: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
