"""Writes pipeline/loss/tests/golden/losses.json: divergences in float64, by SciPy, PyTorch, TRL and Liger Kernel.

    python tests/reference/make_losses.py

Values are SciPy's (rel_entr, jensenshannon, cityblock) or, for Jensen-Shannon, TRL's; gradients are those of PyTorch's
autograd through TRL's function or the definitions. What two of them define is compared here, to 1e-9. README.md has the
versions.
"""

import json
import math
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.stats
import torch
import trl
from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss
from scipy.spatial.distance import cityblock, jensenshannon
from scipy.special import rel_entr
from trl.experimental.gkd.gkd_trainer import GKDTrainer

OUTPUT = Path(__file__).parents[2] / "pipeline/loss/tests/golden/losses.json"
ROWS = 5
MASK = [True, False, True, True, False]
LISTED = {7: 3, 1000: 12}  # ids of a sparse row
ALPHAS = [0.1, 0.5]
BETAS = [0.0, 0.1, 0.5, 0.9, 1.0]
DIVERGENCES = (
    [{"kind": "forward_kl"}, {"kind": "reverse_kl"}]
    + [{"kind": kind, "alpha": alpha} for kind in ["skewed_forward_kl", "skewed_reverse_kl"] for alpha in ALPHAS]
    + [{"kind": "jensen_shannon", "beta": beta, "normalised": n} for n in [False, True] for beta in BETAS]
    + [{"kind": "total_variation"}]
)


def splitmix(seed, count):
    """The generator of Steele et al. 2014: 64-bit words of a counter."""
    mask = 2**64 - 1
    words = []
    for index in range(1, count + 1):
        word = (seed + index * 0x9E3779B97F4A7C15) & mask
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & mask
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & mask
        words.append(word ^ (word >> 31))
    return words


def uniform(seed, vocab):
    """[ROWS, vocab] in [-4, 4), multiples of 2^-21: exact in float32."""
    words = splitmix(seed, ROWS * vocab)
    return torch.tensor([((word >> 40) - 2**23) * 2.0**-21 for word in words], dtype=torch.float64).reshape(ROWS, vocab)


def logits(inputs, vocab):
    """Student and teacher. Nearly equal ones differ by up to 2^-8; peaks leave the others no float32 probability."""
    student, teacher = uniform(1, vocab), uniform(2, vocab)
    if inputs == "near":
        teacher = student + torch.floor(teacher * 2**11) * 2.0**-21
    if inputs == "peaked":
        student[:, 3] += 60
        teacher[:, 5] += 60
    return student, teacher


def mixture(student, teacher, teacher_weight):
    return torch.logaddexp(student + math.log1p(-teacher_weight), teacher + math.log(teacher_weight))


def kl(first, second):
    return (first.exp() * (first - second)).sum(-1)


def definition(kind, student, teacher):
    """The divergence of each row, from log-probabilities."""
    name, alpha = kind["kind"], kind.get("alpha")
    if name == "forward_kl":
        return kl(teacher, student)
    if name == "reverse_kl":
        return kl(student, teacher)
    if name == "skewed_forward_kl":
        return kl(teacher, mixture(student, teacher, alpha))
    if name == "skewed_reverse_kl":
        return kl(student, mixture(student, teacher, 1 - alpha))
    if name == "total_variation":
        return (student.exp() - teacher.exp()).abs().sum(-1) / 2
    beta = kind["beta"]
    divisor = beta * (1 - beta) if kind["normalised"] and 0 < beta < 1 else 1.0
    # Log-probabilities are logits that are normalised already.
    rows = zip(student, teacher)
    return torch.stack([trl_sum(s[None, None], t[None, None], beta, 1.0) for s, t in rows]) / divisor


def trl_sum(student, teacher, beta, temperature, labels=None):
    return GKDTrainer.generalized_jsd_loss(student, teacher, labels, beta, temperature, reduction="sum")


def by_scipy(kind, student, teacher):
    """The value of each row where SciPy has a function for it, else None."""
    q, p = student.exp().numpy(), teacher.exp().numpy()
    name, alpha = kind["kind"], kind.get("alpha")
    if name == "forward_kl":
        return rel_entr(p, q).sum(-1)
    if name == "reverse_kl":
        return rel_entr(q, p).sum(-1)
    if name == "skewed_forward_kl":
        return rel_entr(p, alpha * p + (1 - alpha) * q).sum(-1)
    if name == "skewed_reverse_kl":
        return rel_entr(q, (1 - alpha) * p + alpha * q).sum(-1)
    if name == "total_variation":
        return np.array([cityblock(*row) / 2 for row in zip(p, q)])
    if kind["beta"] == 0.5:
        return jensenshannon(p, q, axis=-1) ** 2 * (4 if kind["normalised"] else 1)
    return None


def check_against_tools(kind, student, teacher, temperature, values, gradient):
    """TRL and Liger's own functions on the logits, masked and not."""
    if kind["kind"] in ["forward_kl", "reverse_kl"]:
        beta, divisor = float(kind["kind"] == "reverse_kl"), 1.0
    elif kind["kind"] == "jensen_shannon":
        beta = kind["beta"]
        divisor = beta * (1 - beta) if kind["normalised"] and 0 < beta < 1 else 1.0
    else:
        return
    for mask in [[True] * ROWS, MASK]:
        labels = torch.tensor([1 if counts else -100 for counts in mask])
        rows = torch.tensor(mask, dtype=torch.float64)
        expected, expected_gradient = (values * rows).sum(), gradient * rows[:, None]
        x = student.clone().requires_grad_()
        loss = trl_sum(x[None], teacher[None], beta, temperature, labels[None]) / divisor
        loss.backward()
        close(loss.detach(), expected)
        close(x.grad, expected_gradient)
        x = student.clone().requires_grad_()
        identity = torch.eye(student.shape[1], dtype=torch.float64)
        liger = LigerFusedLinearJSDLoss(0.0, 1.0, beta=beta, temperature=temperature, compiled=False)
        loss = liger(x, identity, teacher, identity, labels) * sum(mask) / divisor  # a mean over the mask
        loss.backward()
        close(loss.detach().double(), expected, 1e-6)  # Liger adds up in float32
        close(x.grad, expected_gradient, 1e-6)


def close(actual, expected, relative=1e-9):
    torch.testing.assert_close(actual, torch.as_tensor(expected), rtol=relative, atol=1e-12)


def coarse(full, ids):
    """Log-probabilities of the ids and, last, of everything else."""
    rest = full.scatter(1, ids, -math.inf).logsumexp(1, keepdim=True)
    return torch.cat([full.gather(1, ids), rest], 1)


def sampled(vocab):
    """Ids and counts that could have been drawn: rows of different lengths, padded with no counts."""
    lengths = torch.tensor([1, 4, 2, 5, 3])
    ids = torch.tensor([[(7 * row + 2 * index) % vocab for index in range(5)] for row in range(ROWS)])
    counts = torch.tensor([[1.0 + (row + 3 * index) % 4 for index in range(5)] for row in range(ROWS)]).double()
    return ids, counts * (torch.arange(5)[None] < lengths[:, None])


def fixed(value):
    return float(f"{value:.9g}")


def pick(gradient):
    """All of a small gradient; of a large one six entries a row, ids 131 apart from 7 times the row."""
    rows, vocab = gradient.shape
    if vocab > 30:
        ids = torch.tensor([[(7 * row + 131 * index) % vocab for index in range(6)] for row in range(rows)])
        gradient = gradient.gather(1, ids)
    return [fixed(value) for value in gradient.flatten().tolist()]


def record(case, values, gradient):
    """The sums over all rows and over those of the mask; of the gradient entries, the norm and a projection."""
    direction = uniform(3, gradient.shape[1])
    return case | {
        "value": fixed(values.sum()),
        "masked_value": fixed(values[torch.tensor(MASK)].sum()),
        "gradient": pick(gradient),
        "gradient_norm": fixed(gradient.norm()),
        "gradient_projection": fixed((gradient * direction).sum()),
    }


def dense(inputs, vocab, temperature, kind):
    student, teacher = logits(inputs, vocab)
    x = student.clone().requires_grad_()
    q, p = torch.log_softmax(x / temperature, -1), torch.log_softmax(teacher / temperature, -1)
    values = definition(kind, q, p)
    values.sum().backward()
    values = values.detach()
    other = by_scipy(kind, q.detach(), p)
    if other is not None:
        close(values, other)
        values = torch.from_numpy(other)
    check_against_tools(kind, student, teacher, temperature, values, x.grad)
    case = {"inputs": inputs, "vocab_size": vocab, "temperature": temperature, "divergence": kind}
    return record(case, values, x.grad)


def top(inputs, vocab, temperature, kind):
    student, teacher = logits(inputs, vocab)
    x = student.clone().requires_grad_()
    q, p = torch.log_softmax(x / temperature, -1), torch.log_softmax(teacher / temperature, -1)
    ids = p.topk(LISTED[vocab], dim=1).indices
    values = definition(kind, coarse(q, ids), coarse(p, ids))
    values.sum().backward()
    case = {"inputs": inputs, "vocab_size": vocab, "temperature": temperature, "divergence": kind, "sparse": "top"}
    return record(case, values.detach(), x.grad)


def samples(inputs, vocab, temperature):
    student, _ = logits(inputs, vocab)
    ids, counts = sampled(vocab)
    frequencies = counts / counts.sum(1, keepdim=True)
    x = student.clone().requires_grad_()
    target = torch.zeros(ROWS, vocab, dtype=torch.float64).scatter_add(1, ids, frequencies)
    cross_entropy = torch.nn.functional.cross_entropy(x / temperature, target, reduction="none")
    cross_entropy.sum().backward()
    entropy = torch.from_numpy(scipy.stats.entropy(frequencies.numpy(), axis=1))
    case = {
        "inputs": inputs,
        "vocab_size": vocab,
        "temperature": temperature,
        "divergence": {"kind": "forward_kl"},
        "sparse": "samples",
        "cross_entropy": fixed(cross_entropy.sum()),
    }
    return record(case, cross_entropy.detach() - entropy, x.grad)


def cases():
    for vocab in [7, 1000]:
        for kind in DIVERGENCES:
            for temperature in [0.5, 1.0, 2.0]:
                yield dense("random", vocab, temperature, kind)
            yield dense("near", vocab, 1.0, kind)
            yield dense("peaked", vocab, 0.5, kind)
            yield top("random", vocab, 1.0, kind)
            yield top("random", vocab, 2.0, kind)
            yield top("peaked", vocab, 0.5, kind)
        for temperature in [1.0, 2.0]:
            yield samples("random", vocab, temperature)


def main():
    torch.set_num_threads(1)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "scipy": scipy.__version__,
        "trl": trl.__version__,
        "liger_kernel": version("liger-kernel"),
    }
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases())
    OUTPUT.write_text(f'{{"made_with":{json.dumps(versions)},\n"cases":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
