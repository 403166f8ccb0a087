"""Limbeck's training steps beside PyTorch's: the same model, weights, rows and machine.

    python bench_pytorch.py --compare target/release/bench --model 3m|28m --precision fp32|bf16 [--rounds N] [--steps N]

Starts `bench` and each mode of PyTorch (`bench_worker.py`) in turn, each in a process of its own, for several rounds. All start
from the weights that `bench` dumps; if the losses of the first steps differ, they do not train the same model, and that is
the end of it. Progress goes to stderr. The last line of stdout is one JSON object:

    model, precision, rounds, steps
    tokens_per_s        of Limbeck and of each mode: the median over the rounds of the median step
    spread              of the same: the slowest and the fastest round
    best, ratio_best    the fastest mode, and Limbeck's tokens/s over its; at fp32 the fp32 modes run, at bf16 all
    fastest_step, ratio_fastest_step    tokens/s of the fastest step of all rounds, and Limbeck's over the best of the
                        others: what is left of the comparison on a machine that does other work as well
    peak_resident_mb    of Limbeck and of each mode: VmHWM, the largest of the rounds
    memory_ratio, memory_ratio_best    Limbeck's over that of `fp32-eager`, and over that of the best mode
    gflop_per_s, peak_gflop_per_s, share_of_peak, simd_level    of the round of Limbeck's median
    loss_difference     the largest relative difference of a loss of the first steps
    machine             processor, its vector instructions, cores, versions; `others`: the largest part of the processor
                        that other programs used during a measurement

Exit 0: measured. Exit 1: the losses differ, or a process failed. Exit 2: bad usage.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

# Tokens of a step, and the steps that `bench` measures by default: pipeline/src/bench/shape.rs.
MODELS = {"3m": (2048, 30), "28m": (2048, 8)}

# Those of bench_worker.py.
MODES = ["fp32-eager", "fp32-compile", "bf16-eager", "bf16-compile"]

# Steps whose losses are compared, and how far apart they may be, relatively. At 32 bits the sums are taken in another
# order, which makes a difference of 1e-7, and README.md here says what a model that is not the same makes; at 16 bits the two
# round in other places.
COMPARED_STEPS = 8
TOLERANCE = {"fp32": 2e-5, "bf16": 2e-4}

INSTRUCTION_SETS = "avx2 fma f16c avx_vnni avx512f avx512bw avx512_bf16 avx512_fp16 amx_bf16 asimd sve bf16".split()


class Failed(Exception):
    """Something that is worth a line on stderr and exit status 1."""


def cores():
    return len(os.sched_getaffinity(0))


def busy_seconds():
    """Of all cores since the machine started: everything but idle and waiting for the disk."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def run(command):
    """The last line of a command's stdout as JSON, and the part of the processor that other programs used meanwhile."""
    busy, started, before = busy_seconds(), time.perf_counter(), os.times()
    try:
        process = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise Failed(f"`{command[0]}`: {error}; hint: cargo build --release") from error
    after = os.times()
    if process.returncode != 0:
        line = " ".join(map(str, command))
        raise Failed(f"`{line}` ended with status {process.returncode}:\n{process.stderr}")
    own = after.children_user + after.children_system - before.children_user - before.children_system
    others = (busy_seconds() - busy - own) / (time.perf_counter() - started) / cores()
    return json.loads(process.stdout.splitlines()[-1]), max(0.0, others)


def measure_limbeck(bench, model, precision, steps, more=()):
    options = ["--model", model, "--precision", precision, "--device", "cpu", "--steps", str(steps), "--json"]
    return run([bench, *options, *more])


def measure_torch(mode, model, weights, steps):
    worker = pathlib.Path(__file__).resolve().with_name("bench_worker.py")
    options = ["--mode", mode, "--model", model, "--weights", weights, "--steps", str(steps)]
    found, others = run([sys.executable, worker, *options])
    tokens, seconds = MODELS[model][0], found["seconds"]
    found["tokens_per_s"] = dict(median=tokens / statistics.median(seconds), max=tokens / min(seconds))
    return found, others


def check_losses(ours, theirs, mode, precision):
    """The largest relative difference of the first losses; fails beyond the tolerance of the coarser arithmetic."""
    ours, theirs = ours[:COMPARED_STEPS], theirs[:COMPARED_STEPS]
    difference = max(abs(a - b) / b for a, b in zip(ours, theirs))
    tolerance = TOLERANCE["bf16" if "bf16" in (precision, mode[:4]) else "fp32"]
    # Written so that a NaN fails.
    if not difference <= tolerance:
        raise Failed(f"losses differ by `{difference:.1e}`, more than {tolerance}: Limbeck {ours}, {mode} {theirs}")
    return difference


def compare(bench, model, precision, rounds, steps):
    modes = [mode for mode in MODES if precision == "bf16" or mode.startswith("fp32")]
    contestants = ["limbeck", *modes]
    runs = {name: [] for name in contestants}
    differences, disturbed = [], []
    with tempfile.TemporaryDirectory() as directory:
        weights = os.path.join(directory, "weights.safetensors")
        # In a process that is not measured: a copy of the weights would count as memory.
        measure_limbeck(bench, model, precision, 1, ["--dump-weights", weights])
        for index in range(rounds):
            # Another one begins each round, so that none is always the first after a pause.
            for name in contestants[index % len(contestants) :] + contestants[: index % len(contestants)]:
                if name == "limbeck":
                    found, others = measure_limbeck(bench, model, precision, steps)
                else:
                    found, others = measure_torch(name, model, weights, steps)
                runs[name].append(found)
                disturbed.append(others)
                speed, memory = found["tokens_per_s"]["median"], found["peak_resident_bytes"] / 1e6
                line = f"round {index + 1}: {name:13}{speed:9.0f} tokens/s{memory:8.0f} MB, others {others:.1%}"
                print(line, file=sys.stderr, flush=True)
            losses = {name: found[-1]["losses_nats"] for name, found in runs.items()}
            differences += [check_losses(losses["limbeck"], losses[mode], mode, precision) for mode in modes]
    machine = dict(describe_machine(), others=round(max(disturbed), 3))
    return dict(summary(model, precision, steps, runs), loss_difference=max(differences), machine=machine)


def summary(model, precision, steps, runs):
    speeds = {name: [found["tokens_per_s"]["median"] for found in rounds] for name, rounds in runs.items()}
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    memory = {name: max(found["peak_resident_bytes"] for found in rounds) / 1e6 for name, rounds in runs.items()}
    fastest = {name: max(found["tokens_per_s"]["max"] for found in rounds) for name, rounds in runs.items()}
    modes = [name for name in runs if name != "limbeck"]
    best = max(modes, key=medians.get)
    # Of an even number of rounds, the slower of the two in the middle.
    ours = sorted(runs["limbeck"], key=lambda found: found["tokens_per_s"]["median"])
    median = ours[(len(ours) - 1) // 2]
    return dict(
        model=model,
        precision=precision,
        rounds=len(ours),
        steps=steps,
        tokens_per_s={name: round(value, 1) for name, value in medians.items()},
        spread={name: [round(min(values), 1), round(max(values), 1)] for name, values in speeds.items()},
        best=best,
        ratio_best=round(medians["limbeck"] / medians[best], 3),
        fastest_step={name: round(value, 1) for name, value in fastest.items()},
        ratio_fastest_step=round(fastest["limbeck"] / max(fastest[mode] for mode in modes), 3),
        peak_resident_mb={name: round(value, 1) for name, value in memory.items()},
        memory_ratio=round(memory["limbeck"] / memory["fp32-eager"], 3),
        memory_ratio_best=round(memory["limbeck"] / memory[best], 3),
        gflop_per_s=round(median["gflop_per_s"], 1),
        peak_gflop_per_s=median["peak_gflop_per_s"] and round(median["peak_gflop_per_s"], 1),
        share_of_peak=median["share_of_peak"] and round(median["share_of_peak"], 3),
        simd_level=median["simd_level"],
    )


def describe_machine():
    """What the numbers are numbers of."""
    pairs = (line.split(":", 1) for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    facts = {key.strip().lower(): value.strip() for key, value in pairs}
    flags = (facts.get("flags") or facts.get("features") or "").split()
    return dict(
        cpu=facts.get("model name") or platform.machine(),
        instruction_sets=[name for name in INSTRUCTION_SETS if name in flags],
        cores=cores(),
        torch=importlib.metadata.version("torch"),
        python=platform.python_version(),
    )


def main():
    parser = argparse.ArgumentParser(description="Limbeck's training steps beside PyTorch's.")
    parser.add_argument("--compare", metavar="BENCH", required=True, help="such as target/release/bench")
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--precision", choices=TOLERANCE, default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="measured steps of each process; default: those of `bench`")
    options = parser.parse_args()
    steps = MODELS[options.model][1] if options.steps is None else options.steps
    if options.rounds < 1 or steps < 1:
        parser.error("--rounds and --steps must be at least 1")
    try:
        print(json.dumps(compare(options.compare, options.model, options.precision, options.rounds, steps)))
    except Failed as failed:
        print(f"error: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
