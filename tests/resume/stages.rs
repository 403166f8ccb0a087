//! The stages that train, and what makes two of their runs equal.

use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use crate::support::files::{hashes, names};
use crate::support::outcome::Outcome;
use crate::support::sandbox::Sandbox;

/// A stage and what its runs are given, besides their directory.
pub(super) struct Stage {
    command: &'static str,
    arguments: Vec<&'static str>,
}

/// Long enough to be caught on the way.
pub(super) const STEPS: usize = 40;
const LENGTH: [&str; 8] = [
    "--set",
    "train.max_steps=40",
    "--set",
    "train.save_every=5",
    "--set",
    "train.eval_every=20",
    "--set",
    "train.tokens_per_step=1152",
];
/// More steps on own samples than not, so that a kill falls into both.
const OWN_SAMPLES: &str = "on_policy={fraction=0.6, prompt_tokens=9, max_new_tokens=11, top_p=0.9}";

/// Cut to one of two blocks, and narrower everywhere.
const PRUNED: [&str; 4] = [
    "--set",
    "model=",
    "--set",
    "start={kind=\"prune\", from=\"checkpoints/trial/teacher\", num_hidden_layers=1, hidden_size=14, intermediate_size=22, \
     num_attention_heads=1, calibration_tokens=500}",
];

/// Maps that are trained beside the student, of its size to the teacher's.
const HIDDEN: &str = "distill.hidden={kind=\"mse\", weight=0.5}";

/// `pretrain`, `sft`, `distill`, with steps on its own samples, with hidden states, its control, and a student that is cut
/// from its teacher.
pub(super) fn stages() -> [Stage; 7] {
    let stage = |command, more: &[&'static str]| Stage { command, arguments: [&LENGTH[..], more].concat() };
    let distill = |more| stage("distill", more);
    let (own, hidden) = (distill(&["--set", OWN_SAMPLES]), distill(&["--set", HIDDEN]));
    [stage("pretrain", &[]), stage("sft", &[]), distill(&[]), own, hidden, distill(&["--control"]), distill(&PRUNED)]
}

impl Stage {
    /// What it is called in messages and directories.
    pub(super) fn name(&self) -> String {
        let more =
            [("--control", "-control"), (OWN_SAMPLES, "-own-samples"), (HIDDEN, "-hidden"), (PRUNED[3], "-pruned")];
        let more = more.iter().filter(|(argument, _)| self.arguments.contains(argument)).map(|(_, name)| *name);
        std::iter::once(self.command).chain(more).collect()
    }

    /// The command that runs it in `run`.
    pub(super) fn command(&self, sandbox: &Sandbox, run: &str, more: &[&str]) -> Command {
        sandbox.stage_command(self.command, &[&self.arguments[..], &["--out", run], more].concat())
    }

    /// The same with `--resume`, to its end.
    pub(super) fn resumed(&self, sandbox: &Sandbox, run: &str) -> anyhow::Result<Outcome> {
        Outcome::of(&mut self.command(sandbox, run, &["--resume"]))
    }

    /// An uninterrupted run; gives its directory.
    pub(super) fn uninterrupted(&self, sandbox: &Sandbox) -> anyhow::Result<String> {
        let run = format!("runs/{}-whole", self.name());
        Outcome::of(&mut self.command(sandbox, &run, &[]))?.complete()?;
        Ok(run)
    }
}

/// The same last checkpoint, to the last bit of weights, optimizer and manifest; the same metrics but for the clock; and
/// nothing half done left over.
pub(super) fn assert_equal(sandbox: &Sandbox, run: &str, whole: &str) -> anyhow::Result<()> {
    let last = |run: &str| sandbox.path(run).join(format!("step-{STEPS:08}"));
    let (found, expected) = (hashes(&last(run))?, hashes(&last(whole))?);
    for file in ["model.safetensors", "optimizer.safetensors", "manifest.json"] {
        assert!(expected.contains_key(file), "{whole}");
    }
    assert_eq!(found, expected, "{run}");
    assert_eq!(metrics(sandbox, run)?, metrics(sandbox, whole)?, "{run}");
    let cut = |run: &str| std::fs::read(sandbox.path(run).join("prune.json")).ok();
    assert_eq!(cut(run), cut(whole), "{run}");
    assert_eq!(names(&sandbox.path(run))?, names(&sandbox.path(whole))?, "{run}");
    Ok(())
}

/// Rows of `metrics.jsonl` as their numbers were written, without the clock's.
pub(super) fn metrics(sandbox: &Sandbox, run: &str) -> anyhow::Result<Vec<Value>> {
    let text = sandbox.read(&format!("{run}/metrics.jsonl"))?;
    let row = |line: &str| -> anyhow::Result<Value> {
        let mut row: Value = serde_json::from_str(line)?;
        let numbers = row.as_object_mut().context("a row is an object")?;
        numbers.remove("tokens_per_s").context("a row has a speed")?;
        numbers.remove("sampling_s");
        Ok(row)
    };
    let rows = text.lines().map(row).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(rows.len(), STEPS, "{run}");
    Ok(rows)
}
