#!/usr/bin/env python3
"""Loads a GGUF file in llama.cpp and compares what it does with what Limbeck says that it does.

    python3 tests/reference/check_gguf.py --gguf model-f32.gguf --expected expected.json [--hugging-face DIR]
        [--decoded FILE] [--control]

Needs: pip install xllamacpp==2026.10.11549 gguf==0.19.0 (and tokenizers for --hugging-face).

expected.json, which `tests/clients.rs` writes and `check_transformers.py` reads too, is one object; every list is optional
but `prompts`:
  prompts         [[id]]     token ids; no prompt is empty
  log_probs_last  [[float]]  natural log of the probabilities of the token after each prompt, over the whole vocabulary
  greedy          [[id]]     greedy continuation of each prompt
  texts, text_ids [str], [[id]]   texts and their tokens, special tokens in them recognised
  plain_texts, plain_text_ids     the same, special tokens in them taken for text
  chats           [{"messages": [{"role", "content"}], "text": str, "ids": [id]}]   rendered with a generation prompt
  tolerance       float      largest difference of a log-probability, default 1e-4
  kl_tolerance    float      if given, KL(ours || llama.cpp) in nats must be below it, and differences are only printed
  both_tolerances bool       unless this is true

llama.cpp runs in its exact mode: cache in 32-bit floats, no flash attention. F32 files agree within 1e-4 there. With weights of
fewer bits llama.cpp rounds activations too, so these files need tolerances of their own. What is not the activations' is
checked by --decoded, an F32 file with the weights that Limbeck reads from the other: they must be those that the `gguf` package
decodes, bit for bit, and with them llama.cpp must agree within 1e-4.

--control checks the check: with the rows of queries and keys in the order of the other architecture, the log-probabilities
must differ; without the name of the pre-tokenizer, tokens must.

Exit status: 0 all agree, 1 something differs (one line each on stderr), 2 bad usage.
"""

import argparse
import json
import math
import random
import shutil
import sys
import tempfile
import urllib.request
from pathlib import Path

import gguf
import xllamacpp


class Client:
    """llama.cpp's server, in this process."""

    def __init__(self, path, context):
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = context
        params.n_batch = params.n_ubatch = context
        params.n_parallel = 1
        params.warmup = False
        params.fit_params = False
        params.use_jinja = True
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(params)
        self.plain_token = self.tokenize("a")[0]

    def next_token(self, ids, count):
        """The `count` likeliest next tokens and their log-probabilities.

        The server reports none when it samples an end token or a part of a character, so the bias makes it sample a
        plain letter. Log-probabilities are computed from the model's logits, before any bias.
        """
        body = {"prompt": ids, "n_predict": 1, "n_probs": count, "temperature": -1.0, "cache_prompt": False}
        answer = self.server.handle_completions({**body, "logit_bias": [[self.plain_token, 1e6]]})
        answer = json.loads(answer) if isinstance(answer, (bytes, str)) else answer
        if "choices" not in answer:
            sys.exit(f"llama.cpp refused a prompt of {len(ids)} tokens: {answer}")
        entries = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return {entry["id"]: entry["logprob"] for entry in entries}

    def post(self, route, body):
        request = urllib.request.Request(
            self.server.listening_address + route, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def tokenize(self, text, parse_special=True):
        body = {"content": text, "add_special": False, "parse_special": parse_special}
        return self.post("/tokenize", body)["tokens"]

    def render(self, messages):
        return self.post("/apply-template", {"messages": messages})["prompt"]


def check_container(path):
    """What the `gguf` package finds: vectors are F32, tokens are as many as rows of the embedding."""
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for tensor in reader.tensors:
        if len(tensor.shape) == 1 and tensor.tensor_type != gguf.GGMLQuantizationType.F32:
            yield f"container: vector {tensor.name} is {tensor.tensor_type.name}, must be F32"
    rows = int(tensors["token_embd.weight"].shape[1])
    tokens = len(reader.fields["tokenizer.ggml.tokens"].data)
    if rows != tokens:
        yield f"container: {tokens} tokens but {rows} rows in token_embd.weight"


def check_log_probs(client, expected, tolerance):
    worst, worst_kl, kl_tolerance = 0.0, 0.0, expected.get("kl_tolerance")
    for prompt, ours in zip(expected["prompts"], expected.get("log_probs_last", [])):
        theirs = client.next_token(prompt, len(ours))
        if sorted(theirs) != list(range(len(ours))):
            yield f"log-probabilities: llama.cpp gives {len(theirs)} after {len(prompt)} tokens, must give {len(ours)}"
            continue
        token, difference = max(((i, abs(theirs[i] - p)) for i, p in enumerate(ours)), key=lambda pair: pair[1])
        kl = sum(math.exp(p) * (p - theirs[i]) for i, p in enumerate(ours))
        worst, worst_kl = max(worst, difference), max(worst_kl, kl)
        if kl_tolerance is not None:
            if not kl <= kl_tolerance:
                yield f"log-probabilities: KL after {len(prompt)} tokens is {kl:.3g}, tolerance {kl_tolerance:g}"
        if (kl_tolerance is None or expected.get("both_tolerances")) and not difference <= tolerance:
            yield (
                f"log-probabilities: after {len(prompt)} tokens, token {token} differs by {difference:.3g} "
                f"(llama.cpp {theirs[token]:.6f}, ours {ours[token]:.6f}), tolerance {tolerance:g}"
            )
    count = len(expected.get("log_probs_last", []))
    print(f"log-probabilities: {count} prompts, largest difference {worst:.3g}, largest KL {worst_kl:.3g}")


def check_greedy(client, expected, tolerance):
    """Step by step behind our own tokens, so that one tie does not make the rest differ."""
    steps = 0
    for row, (prompt, continuation) in enumerate(zip(expected["prompts"], expected.get("greedy", []))):
        for length, ours in enumerate(continuation):
            theirs = client.next_token(prompt + continuation[:length], 8)
            best = max(theirs, key=theirs.get)
            steps += 1
            # Two tokens nearer to each other than the tolerance are a tie, which either may break.
            if ours != best and not theirs[best] - theirs.get(ours, -math.inf) <= tolerance:
                yield f"greedy: prompt {row}, step {length}: llama.cpp says {best}, we say {ours}"
                break
    print(f"greedy: {len(expected.get('greedy', []))} continuations, {steps} tokens")


def check_texts(client, texts, text_ids, origin, parse_special=True):
    different = 0
    for text, ours in zip(texts, text_ids):
        theirs = client.tokenize(text, parse_special)
        if theirs != ours:
            different += 1
            if different <= 5:
                yield f"tokens: {text!r}: llama.cpp says {theirs}, {origin} says {ours}"
    if different > 5:
        yield f"tokens: {different} of {len(texts)} texts differ, the first 5 are above"
    print(f"tokens: {len(texts)} texts against {origin}")


def check_chats(client, chats):
    # An assistant's last turn llama.cpp's server takes for one that is to be gone on with, whatever the template says.
    chats = [chat for chat in chats if chat["messages"][-1]["role"] != "assistant"]
    for chat in chats:
        theirs = client.render(chat["messages"])
        if theirs != chat["text"]:
            yield f"chat template: llama.cpp renders {theirs!r}, we render {chat['text']!r}"
        elif "ids" in chat and client.tokenize(theirs) != chat["ids"]:
            yield f"chat template: llama.cpp has {client.tokenize(theirs)} for {theirs!r}, we have {chat['ids']}"
    print(f"chat template: {len(chats)} chats")


def fuzzed_texts(count, seed):
    """Words, digits, blanks, contractions, punctuation and other scripts, in any order."""
    generator = random.Random(seed)
    pieces = "the Tom's I'LL we're 12 3.5 2026 café naïve 你好 мир नमस्ते 😀 👋🏽 -- (x) ' \" _ # ٣ ½ ² <|im_end|>".split()
    pieces += [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "\u3000"]
    texts = ["".join(generator.choices(pieces, k=generator.randint(1, 16))) for _ in range(count // 2)]
    ranges = [(0x20, 0x7F), (0xA1, 0x250), (0x370, 0x500), (0x4E00, 0x9FFF), (0x1F300, 0x1F600)]
    for _ in range(count - len(texts)):
        letters = (generator.randrange(*generator.choice(ranges)) for _ in range(generator.randint(1, 24)))
        texts.append("".join(map(chr, letters)))
    return texts


def check_hugging_face(client, directory, reader, count):
    """The tokenizer and the template of the directory that the file was made from."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    texts = fuzzed_texts(count, seed=20261)
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    yield from check_texts(client, texts, ids, "tokenizer.json")
    template = directory / "chat_template.jinja"
    field = reader.fields.get("tokenizer.chat_template")
    if template.exists() and (field is None or field.contents() != template.read_text(encoding="utf-8")):
        yield "chat template: the file has another one than chat_template.jinja"


def swap_rotated_rows(path):
    """Gives the query and key rows the order of the other architecture: halves of a head to pairs, or pairs to halves."""
    reader = gguf.GGUFReader(path, "r+")
    architecture = reader.fields["general.architecture"].contents()
    head_dim = reader.fields[f"{architecture}.attention.key_length"].contents()
    for tensor in reader.tensors:
        if tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
            rows = tensor.data.copy()  # [heads * head_dim, bytes or values of a row]
            pairs = (head_dim // 2, 2) if architecture == "llama" else (2, head_dim // 2)
            tensor.data[:] = rows.reshape(-1, *pairs, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)
    reader.data.flush()


def hide_pre_tokenizer(path):
    """Gives the key another name, so that llama.cpp takes its default."""
    reader = gguf.GGUFReader(path, "r+")
    name = reader.fields["tokenizer.ggml.pre"].parts[1]
    name[-1] = ord("x")
    reader.data.flush()


def check_control(arguments, expected, context):
    with tempfile.TemporaryDirectory() as directory:
        swapped, hidden = Path(directory) / "swapped.gguf", Path(directory) / "hidden.gguf"
        shutil.copy(arguments.gguf, swapped)
        swap_rotated_rows(swapped)
        if not list(check_log_probs(Client(swapped, context), expected, expected.get("tolerance", 1e-4))):
            yield "control: with the rows of queries and keys swapped it agrees, so the check sees nothing"
        shutil.copy(arguments.gguf, hidden)
        hide_pre_tokenizer(hidden)
        client = Client(hidden, context)
        pairs = zip(expected["texts"], expected["text_ids"])
        # Lazily: one that differs is enough.
        if all(client.tokenize(text) == ids for text, ids in pairs):
            yield "control: without the name of its pre-tokenizer the tokens agree, so the check sees nothing"


def check_decoded(arguments, expected, context):
    """The weights that were read are the file's, and llama.cpp agrees about them when it rounds nothing else."""
    decoded = {tensor.name: tensor for tensor in gguf.GGUFReader(arguments.decoded).tensors}
    values = 0
    for tensor in gguf.GGUFReader(arguments.gguf).tensors:
        theirs = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        ours = decoded[tensor.name].data
        values += ours.size
        if ours.tobytes() != theirs.tobytes():
            yield f"decoded: {int((ours != theirs).sum())} of {ours.size} values of {tensor.name} differ"
    print(f"decoded: {values} values")
    exact = {key: value for key, value in expected.items() if key != "kl_tolerance"}
    yield from check_log_probs(Client(arguments.decoded, context), exact, 1e-4)


def differences(arguments):
    expected = json.loads(arguments.expected.read_text(encoding="utf-8"))
    tolerance = expected.get("tolerance", 1e-4)
    yield from check_container(arguments.gguf)
    continuations = expected.get("greedy") or [[]] * len(expected["prompts"])
    lengths = [len(prompt) + len(continuation) for prompt, continuation in zip(expected["prompts"], continuations)]
    context = max(lengths, default=0) + 16
    client = Client(arguments.gguf, context)
    yield from check_log_probs(client, expected, tolerance)
    yield from check_greedy(client, expected, tolerance)
    yield from check_texts(client, expected.get("texts", []), expected.get("text_ids", []), "Limbeck")
    plain = expected.get("plain_texts", []), expected.get("plain_text_ids", [])
    yield from check_texts(client, *plain, "Limbeck, special tokens as text", parse_special=False)
    yield from check_chats(client, expected.get("chats", []))
    if arguments.hugging_face:
        reader = gguf.GGUFReader(arguments.gguf)
        yield from check_hugging_face(client, arguments.hugging_face, reader, arguments.fuzz)
    if arguments.decoded:
        yield from check_decoded(arguments, expected, context)
    if arguments.control:
        yield from check_control(arguments, expected, context)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gguf", type=Path, required=True, help="the file to check")
    parser.add_argument("--expected", type=Path, required=True, help="JSON with what the model does")
    parser.add_argument("--hugging-face", type=Path, help="directory whose tokenizer and template the file must have")
    parser.add_argument("--fuzz", type=int, default=400, help="texts compared with that tokenizer")
    parser.add_argument("--decoded", type=Path, help="F32 file with the weights that were read from the other")
    parser.add_argument("--control", action="store_true", help="check that files with one thing wrong are found out")
    arguments = parser.parse_args()
    found = list(differences(arguments))
    for line in found:
        print(f"{arguments.gguf}: {line}", file=sys.stderr)
    print(f"{arguments.gguf}: {'differs' if found else 'agrees'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
