"""Trains a model of `bench` with PyTorch, in one mode, and prints what was measured: `bench_pytorch.py` starts it.

    python bench_worker.py --mode MODE --model 3m|28m --weights FILE --steps N

FILE is what `bench --dump-weights FILE` wrote. stdout has one JSON object: `losses_nats` of every step, `seconds` of the
steps after the warm-up, `peak_resident_bytes`.
"""

import argparse
import json
import os
import pathlib
import sys
import time

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

# As in pipeline/src/bench/shape.rs.
MODELS = {
    "3m": dict(vocab=4096, hidden=256, intermediate=512, layers=4, heads=4, kv_heads=2, rows=8, length=256),
    "28m": dict(vocab=8192, hidden=512, intermediate=1408, layers=8, heads=8, kv_heads=4, rows=4, length=512),
}
HEAD_DIM, EPSILON, ROPE_THETA = 64, 1e-6, 10_000.0

# bf16 autocast; torch.compile; the loss in chunks of rows. `linear_cross_entropy` is a tenth faster in eager fp32, and smaller,
# but torch.compile breaks its graph there, and autocast would leave it in fp32.
MODES = {
    "fp32-eager": (False, False, True),
    "fp32-compile": (False, True, False),
    "bf16-eager": (True, False, False),
    "bf16-compile": (True, True, False),
}

# torch.compile compiles in the first step; allocators and caches settle in the next ones.
WARMUP_STEPS = 5


class RmsNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))

    def forward(self, x):
        # PyTorch has a fused norm for a weight of the input's type alone; under autocast heads come in bf16.
        return functional.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), EPSILON)


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


def rotate(x, cosines, sines):
    """Pairs (i, i + HEAD_DIM / 2): Hugging Face's `rotate_half`."""
    first, second = x.chunk(2, -1)
    return x * cosines + torch.cat((-second, first), -1) * sines


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        hidden, query_size, key_size = shape["hidden"], shape["heads"] * HEAD_DIM, shape["kv_heads"] * HEAD_DIM
        self.q_proj, self.o_proj = linear(hidden, query_size), linear(query_size, hidden)
        self.k_proj, self.v_proj = linear(hidden, key_size), linear(hidden, key_size)
        self.q_norm, self.k_norm = RmsNorm(HEAD_DIM), RmsNorm(HEAD_DIM)

    def forward(self, x, cosines, sines):
        heads = x.shape[:-1] + (-1, HEAD_DIM)  # [rows, tokens, heads, HEAD_DIM]
        queries = self.q_norm(self.q_proj(x).view(heads)).transpose(1, 2)
        keys = self.k_norm(self.k_proj(x).view(heads)).transpose(1, 2)
        values = self.v_proj(x).view(heads).transpose(1, 2)
        cosines, sines = cosines.to(values.dtype), sines.to(values.dtype)
        queries, keys = rotate(queries, cosines, sines), rotate(keys, cosines, sines)
        attended = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)
        return self.o_proj(attended.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.gate_proj = linear(shape["hidden"], shape["intermediate"])
        self.up_proj = linear(shape["hidden"], shape["intermediate"])
        self.down_proj = linear(shape["intermediate"], shape["hidden"])

    def forward(self, x):
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(shape["hidden"]), RmsNorm(shape["hidden"])
        self.self_attn, self.mlp = Attention(shape), FeedForward(shape)

    def forward(self, x, cosines, sines):
        x = x + self.self_attn(self.input_layernorm(x), cosines, sines)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape["vocab"], shape["hidden"])
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape["layers"]))
        self.norm = RmsNorm(shape["hidden"])


class Decoder(nn.Module):
    """Qwen3's layout with tied embeddings. Names are Hugging Face's, so that `load_state_dict` finds every weight."""

    def __init__(self, shape, chunked):
        super().__init__()
        self.model, self.chunked = Body(shape), chunked
        frequencies = ROPE_THETA ** (-torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM)
        angles = torch.outer(torch.arange(shape["length"], dtype=torch.float64), frequencies).repeat(1, 2)
        self.register_buffer("cosines", angles.cos().float(), persistent=False)
        self.register_buffer("sines", angles.sin().float(), persistent=False)

    def forward(self, inputs, targets):
        """Mean cross-entropy in nats."""
        hidden = self.model.embed_tokens(inputs)
        for block in self.model.layers:
            hidden = block(hidden, self.cosines, self.sines)
        hidden, targets = self.model.norm(hidden).flatten(0, 1), targets.flatten()
        weight = self.model.embed_tokens.weight
        if self.chunked:
            return functional.linear_cross_entropy(hidden, weight, targets, options=nn.LinearCrossEntropyOptions())
        return functional.cross_entropy(functional.linear(hidden, weight).float(), targets)


def batch(shape, step):
    """The rows of pipeline/src/bench/batches.rs: inputs and targets, [rows, length]."""
    wrap = (1 << 32) - 1
    state = (step * shape["rows"] + torch.arange(shape["rows"])) * 2654435761 & wrap
    tokens = [state % shape["vocab"]]
    for _ in range(shape["length"]):
        state = state * 1664525 + 1013904223 & wrap
        tokens.append((5 * tokens[-1] + 17 + (state >> 30)) % shape["vocab"])
    tokens = torch.stack(tokens, 1)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def train(mode, shape, weights, steps):
    """The steps of Limbeck's trainer: mean loss, clipping by the global norm, AdamW that decays matrices alone."""
    bf16, compiled, chunked = MODES[mode]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    # "medium" would round the inputs of matrix products to 16 bits and still call them 32-bit floats.
    torch.set_float32_matmul_precision("highest")
    model = Decoder(shape, chunked)
    model.load_state_dict(load_file(weights))
    parameters = list(model.parameters())
    groups = [
        dict(params=[p for p in parameters if p.dim() > 1], weight_decay=0.1),
        dict(params=[p for p in parameters if p.dim() == 1], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)
    loss_of = torch.compile(model, dynamic=False) if compiled else model
    losses, seconds = [], []
    for step in range(1, WARMUP_STEPS + steps + 1):
        inputs, targets = batch(shape, step)
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = loss_of(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - started)
    return dict(losses_nats=losses, seconds=seconds[WARMUP_STEPS:], peak_resident_bytes=peak_resident_bytes())


def peak_resident_bytes():
    status = pathlib.Path("/proc/self/status").read_text()
    mark = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(mark.split()[1])


def main():
    parser = argparse.ArgumentParser(description="Trains a model of `bench` with PyTorch.")
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--weights", metavar="FILE", required=True)
    parser.add_argument("--steps", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(train(options.mode, MODELS[options.model], options.weights, options.steps)))


if __name__ == "__main__":
    sys.exit(main())
