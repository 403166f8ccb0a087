#!/usr/bin/env python3
"""Does training on the grid of Q4_0 recover what rounding afterwards loses? Scored by llama.cpp.

    cargo build --release
    python3 tests/reference/fake_quant_experiment.py --binaries target/release --modules target/llama-cpp --work fake-quant

Needs what score_gguf.py needs. Everything is in --work and is found again: stopped at any time, the same command goes on.

Of every seed, on the embedded world:
  full       a small student, trained by cross-entropy in full precision
  rounded    the same, exported in Q4_0
  importance the same, with an importance matrix from the training data
  distilled  the student goes on with train.fake_quant = q4_0 towards itself in full precision (forward KL), and, by --ce-weight,
             towards the text
  plain      the same steps on the same rows with cross-entropy alone
  continued  the control: the same steps with cross-entropy in full precision, then exported in Q4_0
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from score_gguf import score  # noqa: E402

import pyarrow.parquet  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


class Experiment:
    def __init__(self, arguments):
        self.arguments = arguments
        self.work = arguments.work
        self.work.mkdir(parents=True, exist_ok=True)
        self.scores_file = self.work / "scores.json"
        self.scores = json.loads(self.scores_file.read_text()) if self.scores_file.exists() else {}

    def run(self, stage, config, sets, *options):
        command = [str(self.arguments.binaries.resolve() / stage), "--config", str(ROOT / "configs/tiny" / f"{config}.toml")]
        for key, value in sets.items():
            command += ["--set", f"{key}={value}"]
        ended = subprocess.run(command + list(options), cwd=self.work, stdout=subprocess.PIPE, text=True, env=os.environ)
        if ended.returncode:
            sys.exit(f"{' '.join(command)}: {ended.returncode}")
        return ended.stdout.strip()

    def prepare(self):
        sets = {"corpus.train_documents": self.arguments.train_documents}
        sets |= {"corpus.valid_documents": self.arguments.documents, "corpus.train_chats": 3000, "corpus.valid_chats": 20}
        self.run("prepare", "prepare", sets)

    def trained(self, out, seed, sets):
        """The last checkpoint of a run on the documents alone, resumed where it was stopped."""
        sets = {
            "run.name": "experiment",
            "run.seed": seed,
            "data.train": '[{path="data/tiny/train.parquet"}]',
            "data.valid": '[{path="data/tiny/valid.parquet"}]',
            "train.precision": "fp32",
            "data.sequence_length": 128,
            "train.tokens_per_step": 1024,
            "train.save_every": 100,
            "train.eval_every": 100,
            **sets,
        }
        stage = "distill" if "teacher.from" in sets else "pretrain"
        return self.run(stage, stage, sets, "--out", out, "--resume")

    def full(self, seed):
        shape = self.arguments.shape.split(",")
        keys = "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim".split()
        sets = {f"model.{key}": size for key, size in zip(keys, shape, strict=True)}
        sets |= {"train.max_steps": self.arguments.full_steps, "schedule.final_ratio": 0.0}
        return self.trained(f"full-{seed}", seed, sets | {"optimizer.learning_rate": self.arguments.full_rate})

    def tuned(self, name, full, seed, more):
        sets = {
            "model": "",
            "start": f'{{kind="checkpoint", from="{full}"}}',
            "train.max_steps": self.arguments.steps,
            "optimizer.learning_rate": self.arguments.rate,
            "optimizer.weight_decay": 0.0,
            "schedule.warmup_steps": 20,
            "schedule.final_ratio": 0.0,
        }
        # Other rows than the student has seen last.
        return self.trained(f"{name}-{seed}", 100 + seed, sets | more)

    def exported(self, name, seed, checkpoint, formats, more=None):
        sets = {"export.from": checkpoint, "export.formats": json.dumps(formats), **(more or {})}
        out = f"export-{name}-{seed}"
        self.run("export-model", "export-model", sets, "--out", out)
        return self.work / out

    def score(self, name, seed, file):
        key = f"{name}-{seed}"
        if key not in self.scores:
            column = pyarrow.parquet.read_table(self.work / "data/tiny/valid.parquet", columns=["text"])["text"]
            self.scores[key] = score(self.arguments.modules, file, column.to_pylist()[: self.arguments.documents])
            self.scores_file.write_text(json.dumps(self.scores, indent=1))
        print(f"{key}: {self.scores[key]['bits_per_byte']:.5f} bits/byte", flush=True)

    def arms(self, seed):
        full = self.full(seed)
        files = self.exported("full", seed, full, ["gguf_f32", "gguf_q4_0"])
        data = '[{path="data/tiny/train.parquet"}]'
        weighted = self.exported("importance", seed, full, ["gguf_q4_0"], {"export.importance": f"{{data={data}}}"})
        self.score("full", seed, files / "model-f32.gguf")
        self.score("rounded", seed, files / "model-q4_0.gguf")
        self.score("importance", seed, weighted / "model-q4_0.gguf")
        grid = {"train.fake_quant": self.arguments.fake_quant}
        towards = {"teacher.from": full, "distill.ce_weight": self.arguments.ce_weight}
        for name, more in [("distilled", grid | towards), ("plain", grid)]:
            checkpoint = self.tuned(name, full, seed, more)
            self.score(name, seed, self.exported(name, seed, checkpoint, ["gguf_q4_0"]) / "model-q4_0.gguf")
        continued = self.tuned("continued", full, seed, {})
        files = self.exported("continued", seed, continued, ["gguf_f32", "gguf_q4_0"])
        self.score("continued", seed, files / "model-q4_0.gguf")
        self.score("continued-full", seed, files / "model-f32.gguf")

    def report(self, seeds):
        bits = lambda name, seed: self.scores[f"{name}-{seed}"]["bits_per_byte"]  # noqa: E731
        print("\n| seed | full | rounded | importance | distilled | plain | continued, rounded | continued, full |")
        print("|---|---|---|---|---|---|---|---|")
        good = 0
        names = "full rounded importance distilled plain continued continued-full".split()
        for seed in seeds:
            print(f"| {seed} | " + " | ".join(f"{bits(name, seed):.4f}" for name in names) + " |")
        for seed in seeds:
            lost = bits("rounded", seed) - bits("full", seed)
            recovered = {name: (bits("rounded", seed) - bits(name, seed)) / lost for name in names[2:5]}
            good += recovered["distilled"] >= 0.5 and recovered["distilled"] >= recovered["plain"]
            shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in recovered.items())
            print(f"seed {seed}: rounding loses {lost:.4f} bits/byte; recovered: {shares}")
        print(f"distilling recovers half or more, and no less than cross-entropy alone, in {good} of {len(seeds)} seeds")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--modules", type=Path, required=True, help="the directory that has node-llama-cpp")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--shape", default="64,192,3,2,1,32", help="of the student, as in [model]")
    parser.add_argument("--train-documents", type=int, default=3000)
    parser.add_argument("--full-steps", type=int, default=6000)
    parser.add_argument("--full-rate", type=float, default=4e-3)
    parser.add_argument("--steps", type=int, default=500, help="on the grid")
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--ce-weight", type=float, default=0.5, help="of distilled")
    parser.add_argument("--fake-quant", default='{weights="q4_0"}')
    parser.add_argument("--documents", type=int, default=200, help="held-out texts that are scored")
    arguments = parser.parse_args()
    experiment = Experiment(arguments)
    experiment.prepare()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for seed in seeds:
        experiment.arms(seed)
    experiment.report(seeds)


if __name__ == "__main__":
    main()
