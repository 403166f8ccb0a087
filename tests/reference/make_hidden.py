"""Writes pipeline/loss/tests/golden/hidden.json: distances of hidden states in float64, by PyTorch.

    python tests/reference/make_hidden.py

Values are those of torch.nn.functional's cosine_embedding_loss and mse_loss, gradients those of autograd: by the student's
states and by the matrix that maps them to the teacher's size.
"""

import json
import platform
from pathlib import Path

import torch
import torch.nn.functional as F

OUTPUT = Path(__file__).parents[2] / "pipeline/loss/tests/golden/hidden.json"
ROWS, STUDENT, TEACHER = 5, 3, 7


def uniform(seed, rows, columns):
    """[rows, columns] in [-4, 4), multiples of 2^-21, from the counter of Steele et al. 2014."""
    mask = 2**64 - 1
    numbers = []
    for index in range(1, rows * columns + 1):
        word = (seed + index * 0x9E3779B97F4A7C15) & mask
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & mask
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & mask
        word ^= word >> 31
        numbers.append(((word >> 40) - 2**23) * 2.0**-21)
    return torch.tensor(numbers, dtype=torch.float64).reshape(rows, columns)


def case(kind):
    student, teacher, weight = uniform(1, ROWS, STUDENT), uniform(2, ROWS, TEACHER), uniform(3, TEACHER, STUDENT)
    student.requires_grad_()
    weight.requires_grad_()
    projected = student @ weight.T
    projected.retain_grad()
    if kind == "cosine":
        loss = F.cosine_embedding_loss(projected, teacher, torch.ones(ROWS, dtype=torch.float64), reduction="sum")
    else:
        loss = F.mse_loss(projected, teacher, reduction="sum") / TEACHER
    loss.backward()
    flat = lambda tensor: tensor.grad.flatten().tolist()
    return {
        "kind": kind,
        "loss": loss.item(),
        "projected_gradient": flat(projected),
        "student_gradient": flat(student),
        "weight_gradient": flat(weight),
    }


def main():
    cases = [case("cosine"), case("mse")]
    made = {"python": platform.python_version(), "torch": torch.__version__}
    OUTPUT.write_text(json.dumps({"made_with": made, "cases": cases}, indent=1) + "\n")


main()
