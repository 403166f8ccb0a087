//! Which checkpoints stay, and what a dead process left half done.

use std::fs;
use std::path::{Path, PathBuf};

use crate::CheckpointError;
use crate::atomic::{remove, sync_directory};
use crate::crash::{self, Point};
use crate::find::{inspect, steps};

/// Followed by the name of a step.
const TRASH: &str = ".trash-";
const ASIDE: &str = ".replaced-";
const TEMPORARY: &str = ".tmp-";

/// Removes what is older than the newest `keep` checkpoints up to `saved`. Those with a missing or truncated file do
/// not count, so damage never pushes a good one out; later ones than `saved`, there when the run went on from an older
/// checkpoint, neither count nor go.
pub(crate) fn apply(run: &Path, saved: u64, keep: usize) -> Result<(), CheckpointError> {
    let mut good = 0;
    for (_, path) in steps(run)?.into_iter().rev().filter(|(step, _)| *step <= saved) {
        if good >= keep {
            discard(run, &path)?;
        } else if inspect(&path).is_ok() {
            good += 1;
        }
    }
    Ok(())
}

/// Takes the name first: a directory half deleted under its own name would look like a damaged checkpoint.
fn discard(run: &Path, step: &Path) -> Result<(), CheckpointError> {
    let name = step.file_name().unwrap_or_default().to_string_lossy();
    let trash = run.join(format!("{TRASH}{name}"));
    remove(&trash)?;
    fs::rename(step, &trash).map_err(CheckpointError::io("move aside", step))?;
    sync_directory(run)?;
    crash::reached(Point::Trashed);
    remove(&trash)
}

/// Where a checkpoint waits while another of the same step takes its name.
pub(crate) fn aside(step: &Path) -> PathBuf {
    let name = step.file_name().unwrap_or_default().to_string_lossy();
    step.with_file_name(format!("{name}{ASIDE}{}", std::process::id()))
}

/// Removes what a dead process left, and moves back what it had moved aside. Whoever writes in a run directory holds
/// its lock, so with the lock held every temporary name is a dead process's.
pub(crate) fn clear_leftovers(run: &Path) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(run).map_err(CheckpointError::io("list", run))? {
        let path = entry.map_err(CheckpointError::io("list", run))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some(step) = owner(name, ASIDE) {
            move_back(&path, &run.join(step))?;
        } else if is_leftover(name) {
            remove(&path)?;
        }
    }
    Ok(())
}

fn move_back(aside: &Path, step: &Path) -> Result<(), CheckpointError> {
    match step.exists() {
        true => remove(aside),
        false => fs::rename(aside, step).map_err(CheckpointError::io("move back", step)),
    }
}

fn is_leftover(name: &str) -> bool {
    let trash = name.strip_prefix(TRASH).is_some_and(is_step);
    trash || owner(name, TEMPORARY).is_some_and(|name| name.starts_with('.') || is_step(name))
}

/// `name` without the mark and the number of the process that made it.
fn owner<'a>(name: &'a str, mark: &str) -> Option<&'a str> {
    let (owner, process) = name.rsplit_once(mark)?;
    let is_number = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(owner)
}

fn is_step(name: &str) -> bool {
    name.starts_with("step-")
}
