//! A teacher's logits on disk: what is learned from them, what is refused, what a killed capture leaves.

mod killed;
mod read_ahead;
mod refused;
mod training;

use anyhow::Context;
use serde_json::Value;

use crate::support::outcome::Outcome;
use crate::support::sandbox::Sandbox;

/// What `teacher.logits` is set to.
const CACHE: &str = "teacher.logits=cache";
const FULL: &str = "capture.codec={kind=\"full\"}";
const TOP_K: &str = "capture.codec={kind=\"top_k\", k=12}";

/// `distill` with overrides.
fn distill(sandbox: &Sandbox, arguments: &[&str], sets: &[&str]) -> anyhow::Result<Outcome> {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    sandbox.stage("distill", &arguments.iter().copied().chain(sets).collect::<Vec<_>>())
}

/// Captures into `cache`.
fn capture(sandbox: &Sandbox, sets: &[&str]) -> anyhow::Result<()> {
    let path = distill(sandbox, &["--capture"], &[&[CACHE], sets].concat())?.complete()?;
    assert_eq!(path, "cache");
    Ok(())
}

/// A number of every row of a run's metrics.
fn metric(sandbox: &Sandbox, run: &str, key: &str) -> anyhow::Result<Vec<f64>> {
    let text = sandbox.read(&format!("{run}/metrics.jsonl"))?;
    let number = |line: &str| -> anyhow::Result<f64> {
        let row: Value = serde_json::from_str(line)?;
        row[key].as_f64().with_context(|| format!("{key} in {line}"))
    };
    text.lines().map(number).collect()
}
