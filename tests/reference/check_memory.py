#!/usr/bin/env python3
"""Loads a GGUF file in llama.cpp at several contexts and compares what it says that it allocates with what Limbeck predicts.

    python3 tests/reference/check_memory.py --gguf model-f16.gguf --expected memory.json

Needs: pip install xllamacpp==2026.10.11549.

memory.json, which `tests/clients/memory.rs` writes, is a list of objects: context, in tokens, and for it cache_f16_bytes,
cache_q8_0_bytes (keys and values) and activation_bytes (the compute buffer, tolerance a quarter). llama.cpp prints MiB with two
digits; the cache must round to them. Each load is a process of its own, whose log is read. As a control, a cache with one layer
more or less (a prediction off by a fifth) must be found out.

Exit status: 0 all agree, 1 something differs (one line each on stderr), 2 bad usage.
"""

import argparse
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

LOAD = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx = sys.argv[1], int(sys.argv[2])
params.cache_type_k = params.cache_type_v = getattr(xllamacpp.ggml_type, "GGML_TYPE_" + sys.argv[3])
params.n_parallel, params.warmup, params.fit_params, params.verbosity = 1, False, False, 4
xllamacpp.Server(params)
"""
MIB = 1 << 20


def allocated(path, context, kind):
    """MiB of the cache and of the compute buffer, as text. The process is ended as soon as it has said both."""
    command = [sys.executable, "-c", LOAD, str(path), str(context), kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    patience = threading.Timer(300, process.kill)
    patience.start()
    found, log = {}, []
    for line in process.stdout:
        log.append(line)
        match = re.search(r"(llama_kv_cache:|compute buffer) size = +([\d.]+) MiB", line)
        if match:
            found[match.group(1)] = match.group(2)
        if len(found) == 2:
            break
    patience.cancel()
    process.kill()
    process.wait()
    if len(found) < 2:
        sys.exit(f"llama.cpp did not say what it allocates:\n{''.join(log[-40:])}")
    return found["llama_kv_cache:"], found["compute buffer"]


def differences(path, expected):
    for entry in expected:
        context = entry["context"]
        for kind in ("F16", "Q8_0"):
            predicted = entry[f"cache_{kind.lower()}_bytes"]
            cache, compute = allocated(path, context, kind)
            print(f"context {context}, {kind}: cache {cache} MiB, compute buffer {compute} MiB")
            if f"{predicted / MIB:.2f}" != cache:
                yield f"context {context}: a cache in {kind} has {cache} MiB, predicted {predicted / MIB:.4f}"
            if f"{predicted * 1.2 / MIB:.2f}" == cache:
                yield f"control: at a context of {context} a cache that is a fifth larger would not be noticed"
            ratio = entry["activation_bytes"] / MIB / float(compute)
            if not 0.75 <= ratio <= 1.25:
                yield f"context {context}: the compute buffer has {compute} MiB, predicted {ratio:.3f} of it"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gguf", type=Path, required=True, help="the file to load")
    parser.add_argument("--expected", type=Path, required=True, help="JSON with what Limbeck predicts")
    arguments = parser.parse_args()
    found = list(differences(arguments.gguf, json.loads(arguments.expected.read_text(encoding="utf-8"))))
    for line in found:
        print(f"{arguments.gguf}: {line}", file=sys.stderr)
    print(f"{arguments.gguf}: {'differs' if found else 'agrees'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
