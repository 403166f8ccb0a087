"""Writes parity/{qwen3,llama,qwen2}.{safetensors,json}: what transformers and PyTorch make of three small models.

    python make_parity_fixtures.py

README.md says what is in the files. The models are transformers' own classes, run in float64 and rounded to float32
once, at the end; the JSON files say how far the same code in float32 is from that.
"""

import contextlib
import json
import platform
from pathlib import Path
from unittest import mock

import safetensors
import safetensors.torch
import torch
import transformers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

OUTPUT = Path(__file__).parent / "parity"
ROWS, SEQUENCE = 3, 17
SEGMENTS = [4, 8, 5]  # lengths in the packed row
PROMPT, CONTINUATION = 5, 24  # tokens of the greedy case
STEPS = 10
OPTIMIZER = {
    "learning_rate": 1e-2,
    "beta_1": 0.9,
    "beta_2": 0.95,
    "epsilon": 1e-8,
    "weight_decay": 0.1,  # of matrices, the embedding among them; vectors have none
    "max_grad_norm": 1.0,  # of all gradients together
}

# Within a model every size of an axis differs from every other, so that a swapped axis shows. Qwen3's heads are together
# wider than the residual stream.
MODELS = {
    "qwen3": {
        "vocab_size": 97,
        "hidden_size": 22,
        "intermediate_size": 38,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5000.0,
        "tie_word_embeddings": True,
        "max_position_embeddings": 64,
    },
    "llama": {
        "vocab_size": 89,
        "hidden_size": 24,
        "intermediate_size": 34,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "max_position_embeddings": 64,
    },
    "qwen2": {
        "vocab_size": 83,
        "hidden_size": 40,
        "intermediate_size": 46,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 10,
        "rms_norm_eps": 1e-6,
        "rope_theta": 20000.0,
        "tie_word_embeddings": True,
        "max_position_embeddings": 64,
    },
}
CLASSES = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, modeling_qwen3),
    "llama": (LlamaConfig, LlamaForCausalLM, modeling_llama),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, modeling_qwen2),
}


@contextlib.contextmanager
def double_precision():
    """transformers asks for float32 in norms, softmax and rotary angles: within this, it gets float64."""
    with (
        mock.patch.object(torch, "float32", torch.float64),
        mock.patch.object(torch, "float", torch.float64),
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
    ):
        yield


def build(name, weights, dtype):
    """The model with these weights; `dtype` float64 only within `double_precision`."""
    sizes = dict(MODELS[name])
    rope = {"rope_type": "default", "rope_theta": sizes.pop("rope_theta")}
    config_class, model_class, _ = CLASSES[name]
    config = config_class(**sizes, rope_parameters=rope, attn_implementation="eager")
    model = model_class(config).to(dtype)
    missing = model.load_state_dict({key: value.to(dtype) for key, value in weights.items()}, strict=False)
    tied = ["lm_head.weight"] if sizes["tie_word_embeddings"] else []
    assert missing.missing_keys == tied and not missing.unexpected_keys, missing
    assert model.model.rotary_emb.inv_freq.dtype == dtype
    return model.eval()


def draw_weights(name, generator):
    """Larger than a usual initialisation, and norms far from 1, so that every part of the model shows in the logits."""
    weights = {}
    for key, parameter in build(name, draw_nothing(name), torch.float32).named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if key.endswith(".bias"):
            value = 0.5 * noise
        elif parameter.dim() == 1:
            value = 1 + 0.3 * noise
        elif "embed" in key or "lm_head" in key:
            value = 0.4 * noise
        else:
            value = noise * 1.5 / parameter.shape[1] ** 0.5
        weights[key] = value.to(torch.float32)
    return weights


def draw_nothing(name):
    """The names and shapes of the model's parameters."""
    config_class, model_class, _ = CLASSES[name]
    return {key: value.detach() for key, value in model_class(config_class(**MODELS[name])).named_parameters()}


def draw_batch(vocab_size, generator):
    """Inputs, targets (independent of the inputs) and a mask with another number of targets in each row."""
    inputs, targets = torch.randint(vocab_size, (2, ROWS, SEQUENCE), generator=generator)
    mask = torch.zeros(ROWS, SEQUENCE)
    mask[0] = 1
    mask[1, 5:] = 1
    mask[2, [2, 3, 11]] = 1
    return inputs, targets, mask


def mean_loss(model, inputs, targets, mask):
    """Cross-entropy in nats: the sum over masked targets divided by their number."""
    logits = model(inputs, use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return (losses * mask.flatten()).sum() / mask.sum(), logits


def gradients(model, batch):
    model.zero_grad()
    loss, logits = mean_loss(model, *batch)
    loss.backward()
    return loss.item(), logits.detach(), {key: value.grad.clone() for key, value in model.named_parameters()}


def train(model, batch):
    """Ten steps of torch.optim.AdamW on one batch. A loss is that before its step; so is a norm, before clipping."""
    named = list(model.parameters())
    groups = [
        {"params": [p for p in named if p.dim() > 1], "weight_decay": OPTIMIZER["weight_decay"]},
        {"params": [p for p in named if p.dim() == 1], "weight_decay": 0.0},
    ]
    betas = (OPTIMIZER["beta_1"], OPTIMIZER["beta_2"])
    optimizer = torch.optim.AdamW(groups, lr=OPTIMIZER["learning_rate"], betas=betas, eps=OPTIMIZER["epsilon"])
    losses, norms = [], []
    for _ in range(STEPS):
        losses.append(gradients(model, batch)[0])
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER["max_grad_norm"]).item())
        optimizer.step()
    return losses, norms, {key: value.detach().clone() for key, value in model.named_parameters()}


def swapped_halves_logits(name, model, inputs):
    """Logits with the two halves of every head swapped in the rotation: the other direction of every angle."""

    def swapped(x):
        first, second = x.chunk(2, dim=-1)
        return torch.cat((second, -first), dim=-1)  # transformers: (-second, first)

    with mock.patch.object(CLASSES[name][2], "rotate_half", swapped), torch.no_grad():
        return model(inputs, use_cache=False).logits


def additive(allowed):
    """The attention mask for which transformers takes no decision of its own."""
    return torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~allowed, -torch.inf)[None, None]


def packed_case(model, row):
    """Logits of each segment alone, joined; and how far off one row with a merely causal mask would be."""
    segments = torch.repeat_interleave(torch.arange(len(SEGMENTS)), torch.tensor(SEGMENTS))
    positions = torch.cat([torch.arange(length) for length in SEGMENTS])
    causal = torch.ones(len(row), len(row), dtype=torch.bool).tril()
    same_segment = segments[:, None] == segments

    def packed(allowed):
        mask = additive(allowed)
        return model(row[None], attention_mask=mask, position_ids=positions[None], use_cache=False).logits[0]

    with torch.no_grad():
        alone = torch.cat([model(part[None], use_cache=False).logits[0] for part in row.split(SEGMENTS)])
        assert (packed(causal & same_segment) - alone).abs().max() < 1e-12, "transformers' own packing disagrees"
        merely_causal = (packed(causal) - alone).abs().max().item()
    return {"inputs": row, "segment_ids": segments, "positions": positions, "logits": alone}, merely_causal


def greedy(model, prompt):
    """The continuation without a cache, and the smallest lead of a chosen token over the next best."""
    tokens, lead = prompt.tolist(), torch.inf
    for _ in range(CONTINUATION):
        with torch.no_grad():
            best, chosen = model(torch.tensor([tokens]), use_cache=False).logits[0, -1].topk(2)
        lead = min(lead, (best[0] - best[1]).item())
        tokens.append(chosen[0].item())
    return {"prompt": prompt.tolist(), "continuation": tokens[len(prompt) :], "smallest_lead": lead}


def relative(difference, reference):
    """Relative L2, the largest over the tensors."""
    return max(((difference[key] - value).norm() / value.norm()).item() for key, value in reference.items())


def single_precision(name, weights, batch, reference, bfloat16):
    """How far the same code in float32, unpatched, is from the reference: a floor for any tolerance.

    With bfloat16, of products whose factors are rounded to it, as PyTorch trains at that precision.
    """
    inputs, targets, mask = batch
    # Its cache would keep the rounded weights of the first step for all ten.
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16, cache_enabled=False):
        loss, logits, grads = gradients(build(name, weights, torch.float32), (inputs, targets, mask.to(torch.float32)))
        losses, _, trained = train(build(name, weights, torch.float32), (inputs, targets, mask.to(torch.float32)))
    return {
        "logits_max_abs": (logits - reference["logits"]).abs().max().item(),
        "loss_abs": abs(loss - reference["loss"]),
        "gradient_relative_l2": relative(grads, reference["gradients"]),
        "adamw_losses_max_abs": max(abs(a - b) for a, b in zip(losses, reference["losses"], strict=True)),
        "trained_weight_relative_l2": relative(trained, reference["trained"]),
    }


def fixture(name, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = draw_weights(name, generator)
    batch = draw_batch(MODELS[name]["vocab_size"], generator)
    packed_row = torch.randint(MODELS[name]["vocab_size"], (sum(SEGMENTS),), generator=generator)
    inputs, targets, mask = batch
    with double_precision():
        model = build(name, weights, torch.float64)
        loss, logits, grads = gradients(model, (inputs, targets, mask.double()))
        swapped = swapped_halves_logits(name, model, inputs)
        packed, merely_causal = packed_case(model, packed_row)
        continuation = greedy(model, inputs[0, :PROMPT])
        losses, norms, trained = train(build(name, weights, torch.float64), (inputs, targets, mask.double()))
    assert logits.dtype == trained["model.norm.weight"].dtype == torch.float64
    reference = {"logits": logits, "loss": loss, "gradients": grads, "losses": losses, "trained": trained}
    tensors = {
        "inputs": inputs,
        "targets": targets,
        "loss_mask": mask,
        "logits": logits,
        "swapped_halves.logits": swapped[:1],
        **{f"packed.{key}": value for key, value in packed.items()},
        **{f"weight.{key}": value for key, value in weights.items()},
        **{f"gradient.{key}": value for key, value in grads.items()},
        **{f"trained.{key}": value for key, value in trained.items()},
    }
    facts = {
        "versions": versions(),
        "seed": seed,
        "model": {"architecture": name, **MODELS[name]},
        "optimizer": OPTIMIZER,
        "loss": loss,
        "target_tokens": int(mask.sum()),
        "losses": losses,
        "grad_norms": norms,
        "greedy": continuation,
        "float32_differs_by": single_precision(name, weights, batch, reference, bfloat16=False),
        "bfloat16_differs_by": single_precision(name, weights, batch, reference, bfloat16=True),
        "swapped_halves_differ_by": (swapped - logits).abs().max().item(),
        "packing_without_document_mask_differs_by": merely_causal,
    }
    return tensors, facts


def versions():
    modules = (torch, transformers, safetensors)
    return {"python": platform.python_version(), **{m.__name__: m.__version__.split("+")[0] for m in modules}}


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    OUTPUT.mkdir(exist_ok=True)
    for seed, name in enumerate(MODELS, start=11):
        tensors, facts = fixture(name, seed)
        # Token ids too: they are small enough to be exact, and every reader has float32.
        tensors = {key: value.to(torch.float32).contiguous() for key, value in tensors.items()}
        path = OUTPUT / f"{name}.safetensors"
        safetensors.torch.save_file(tensors, path)
        path.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
        print(f"{path.name}: {path.stat().st_size} bytes, {json.dumps(facts['float32_differs_by'])}")


if __name__ == "__main__":
    main()
