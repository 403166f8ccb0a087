#!/usr/bin/env python3
"""Writes pipeline/quant/tests/golden/: floats, and the bytes that the `gguf` package makes of them; for K-quants, which it
decodes alone, drawn bytes and what it makes of those.

Made with: Python 3.11.7, numpy 2.4.6, gguf 0.19.0, on x86-64.
Run: python3 tests/reference/quant_blocks.py pipeline/quant/tests/golden
"""

import sys
from pathlib import Path

import gguf
import numpy as np

ROW_SIZE = 96  # three blocks
K_ROWS, K_BLOCKS = 5, 2


def rows():
    """[rows, 96]: random rows of many magnitudes, and the cases where implementations differ."""
    random = np.random.default_rng(20260730)
    result = [random.normal(0.0, scale, ROW_SIZE) for scale in (1e-9, 1e-7, 3e-6, 1e-4, 0.02, 1.0, 37.0, 4e3)]
    result.append(np.zeros(ROW_SIZE))
    result.append(np.full(ROW_SIZE, -0.0))
    # Ties of Q8_0: the scale is 2, every odd value is half way between two codes.
    ties = np.arange(ROW_SIZE, dtype=np.float64) % 32 - 16
    ties[::32] = 254.0
    result.append(ties)
    # Ties of Q4_0: the scale is -1 or 1, the values are half way between codes.
    halves = (np.arange(ROW_SIZE) % 16) - 7.5
    halves[0], halves[32], halves[64] = 8.0, -8.0, -8.0
    result.append(halves)
    # The largest magnitude twice, with both signs: the first one decides, and the other is clipped.
    twice = random.normal(0.0, 0.1, ROW_SIZE)
    twice[3], twice[20], twice[40], twice[50], twice[70], twice[71] = 2.0, -2.0, -2.0, 2.0, -2.0, -2.0
    result.append(twice)
    negative = random.uniform(-1.0, 0.5, ROW_SIZE)
    negative[::32] = -3.0
    result.append(negative)
    # Subnormals of binary16 and bfloat16, and scales that underflow in binary16.
    result.append(random.normal(0.0, 2e-8, ROW_SIZE))
    result.append(random.normal(0.0, 1e-38, ROW_SIZE))
    result.append(random.normal(0.0, 1e-40, ROW_SIZE))
    result.append(np.array([1e-45, -1e-45, 0.0] * 32))
    # The largest finite binary16, and what still rounds down to it.
    result.append(np.array([65504.0, -65504.0, 65519.99, 1.0] * 24))
    return np.array(result).astype(np.float32)


def k_blocks(kind, halves):
    """[rows, bytes]: drawn blocks with the binary16 scales at `halves` (bytes from the start of a block) between 1e-4 and 1."""
    random = np.random.default_rng(20261122 + kind.value)
    _, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (K_ROWS * K_BLOCKS, size), dtype=np.uint8)
    for place in halves:
        scales = (10.0 ** random.uniform(-4.0, 0.0, len(blocks))).astype(np.float16)
        blocks[:, place : place + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(K_ROWS, -1)


def main():
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    values = rows()
    (directory / "values.f32").write_bytes(values.tobytes())
    kinds = gguf.GGMLQuantizationType
    for kind in (kinds.F16, kinds.BF16, kinds.Q8_0, kinds.Q4_0, kinds.Q4_1, kinds.Q5_0, kinds.Q5_1):
        encoded = gguf.quants.quantize(values, kind)
        (directory / f"{kind.name.lower()}.bytes").write_bytes(encoded.tobytes())
        (directory / f"{kind.name.lower()}.decoded.f32").write_bytes(gguf.quants.dequantize(encoded, kind).tobytes())
    for kind, halves in ((kinds.Q4_K, (0, 2)), (kinds.Q5_K, (0, 2)), (kinds.Q6_K, (208,))):
        encoded = k_blocks(kind, halves)
        (directory / f"{kind.name.lower()}.bytes").write_bytes(encoded.tobytes())
        (directory / f"{kind.name.lower()}.decoded.f32").write_bytes(gguf.quants.dequantize(encoded, kind).tobytes())


if __name__ == "__main__":
    main()
