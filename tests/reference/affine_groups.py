#!/usr/bin/env python3
"""Writes pipeline/quant/tests/golden/affine*: floats, and what mlx makes of them in mode `affine`.

Made with: Python 3.11.7, mlx 0.32.4 (CPU), numpy 2.4.6, on x86-64.
Run: python3 tests/reference/affine_groups.py pipeline/quant/tests/golden

`affine.f32` is [rows, 128]. For each number of bits and size of a group, `affine-BITS-SIZE.bytes` has the words, the scales
and the biases that `mx.quantize` makes of the values in binary16, one after the other, all little-endian;
`affine-BITS-SIZE.decoded.f32` what `mx.dequantize` makes of those in float32.
"""

import sys
from pathlib import Path

import mlx.core as mx
import numpy as np

ROW_SIZE = 128
GRIDS = ((4, 64), (8, 64), (2, 32), (8, 128))


def rows():
    """[rows, 128]: random rows of many magnitudes, and the cases where implementations differ."""
    random = np.random.default_rng(20261128)
    result = [random.normal(0.0, scale, ROW_SIZE) for scale in (1e-7, 1e-5, 3e-4, 0.02, 0.02, 0.3, 1.0, 1.0, 37.0, 9e3)]
    result.append(np.zeros(ROW_SIZE))
    result.append(np.full(ROW_SIZE, -0.0))
    result.append(np.full(ROW_SIZE, 0.7))
    result.append(np.full(ROW_SIZE, -0.7))
    # Of one sign: zero is no code, or far away.
    result.append(random.uniform(0.5, 1.0, ROW_SIZE))
    result.append(random.uniform(-1.0, -0.5, ROW_SIZE))
    result.append(random.uniform(100.0, 100.5, ROW_SIZE))
    result.append(random.uniform(0.0, 1.0, ROW_SIZE))
    # The same magnitude at both ends, and one end just over the other.
    ends = random.uniform(-1.0, 1.0, ROW_SIZE)
    ends[[3, 70]], ends[[9, 90]] = -2.0, 2.0
    result.append(ends)
    result.append(np.where(np.arange(ROW_SIZE) == 64, -2.002, ends))
    # Ties: the step is 1, or 1/4, and values are half way between codes.
    for step in (1.0, 0.25):
        ties = (np.arange(ROW_SIZE) % 15 + 0.5) * step
        ties[[0, 32, 64, 96]], ties[[1, 33, 65, 97]] = 0.0, 15.0 * step
        result.append(ties)
        result.append(-ties)
    # One value far out, the others next to nothing.
    lonely = random.normal(0.0, 1e-3, ROW_SIZE)
    lonely[[40, 100]] = 5.0, -5.0
    result.append(lonely)
    # Steps below the smallest one, subnormals of binary16, and its largest values.
    result.append(random.uniform(0.9999, 1.0, ROW_SIZE))
    result.append(random.uniform(-6e-7, 6e-7, ROW_SIZE))
    result.append(np.array([65504.0, -65504.0, 65519.0, 1.0] * 32))
    return np.array(result).astype(np.float32)


def main():
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    mx.set_default_device(mx.cpu)
    values = rows()
    (directory / "affine.f32").write_bytes(values.tobytes())
    for bits, group_size in GRIDS:
        parts = mx.quantize(mx.array(values).astype(mx.float16), group_size=group_size, bits=bits, mode="affine")
        encoded = b"".join(np.array(part).tobytes() for part in parts)
        words, scales, biases = parts[0], parts[1].astype(mx.float32), parts[2].astype(mx.float32)
        decoded = mx.dequantize(words, scales, biases, group_size=group_size, bits=bits, mode="affine")
        (directory / f"affine-{bits}-{group_size}.bytes").write_bytes(encoded)
        (directory / f"affine-{bits}-{group_size}.decoded.f32").write_bytes(np.array(decoded).tobytes())


if __name__ == "__main__":
    main()
