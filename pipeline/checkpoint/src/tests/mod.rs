//! Runs of small checkpoints, damaged and interrupted.

pub(crate) mod crash;
mod damage;
mod full;
mod resolve;
mod run;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{CheckpointError, ManifestHeader, RunDirectory};

/// Distinct in every field, so that two swapped ones show.
fn header(step: u64) -> ManifestHeader {
    ManifestHeader { stage: "sft".into(), step, tokens_seen: step * 768, seed: 41, ..Default::default() }
}

/// Bytes of a model file that differ from step to step.
fn weights(step: u64) -> Vec<u8> {
    (0..1013).map(|index| ((index * 7 + step * 13) % 251) as u8).collect()
}

fn write_model(directory: &Path, step: u64) -> io::Result<()> {
    fs::write(directory.join("model.safetensors"), weights(step))?;
    fs::write(directory.join("config.json"), "{}")?;
    fs::write(directory.join("optimizer.safetensors"), weights(step + 1000))
}

fn save(run: &RunDirectory, step: u64) -> Result<PathBuf, CheckpointError> {
    run.save(header(step), |directory| write_model(directory, step))
}

/// A run with the given steps, closed.
fn run_of(path: &Path, steps: &[u64]) -> Result<(), CheckpointError> {
    let run = RunDirectory::create(path)?;
    steps.iter().try_for_each(|step| save(&run, *step).map(drop))
}

/// Names in a directory but the lock, sorted.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name != ".lock");
    names.sort();
    Ok(names)
}
