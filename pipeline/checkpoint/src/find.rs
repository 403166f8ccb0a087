//! Checkpoints are found by name and believed by hash.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::CheckpointError;
use crate::manifest::{FileEntry, MANIFEST_FILE, Manifest, WEIGHTS_FILE, WEIGHTS_INDEX};

/// A step directory that verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The step directory.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

/// A step directory that was passed over. Show it: the user thinks that it is there.
#[derive(Debug)]
pub struct Skipped {
    /// The step directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: CheckpointError,
}

impl fmt::Display for Skipped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "skipped checkpoint `{}`: {}", self.path.display(), self.reason)
    }
}

/// The newest checkpoint of a run that verifies.
#[derive(Debug)]
pub struct Newest {
    /// `None` when none does, or when there is none.
    pub checkpoint: Option<Checkpoint>,
    /// Newer ones that do not.
    pub skipped: Vec<Skipped>,
}

/// Where a model is.
#[derive(Debug)]
pub struct Resolved {
    /// The model directory, or the GGUF file.
    pub path: PathBuf,
    /// What it says about itself; `None` for a model that we did not write.
    pub manifest: Option<Manifest>,
    /// Newer checkpoints of the run that do not verify.
    pub skipped: Vec<Skipped>,
}

/// Checks that every file of the manifest is there with its size and hash. Files that it does not list don't matter.
///
/// # Errors
/// Names the first thing that is wrong: the manifest, or a file that is missing, has another size or other bytes.
pub fn verify(step_directory: &Path) -> Result<Manifest, CheckpointError> {
    let manifest = inspect(step_directory)?;
    for (name, expected) in &manifest.files {
        let path = step_directory.join(name);
        let found = FileEntry::of(&path)?;
        if found != *expected {
            return Err(CheckpointError::FileHash { path, found: found.blake3, expected: expected.blake3.clone() });
        }
    }
    Ok(manifest)
}

/// [`verify`] without reading the files.
pub(crate) fn inspect(step_directory: &Path) -> Result<Manifest, CheckpointError> {
    let manifest = Manifest::read(step_directory)?;
    if let Some(expected) = step_of(step_directory)
        && manifest.step != expected
    {
        let path = step_directory.join(MANIFEST_FILE);
        return Err(CheckpointError::StepMismatch { path, found: manifest.step, expected });
    }
    for (name, entry) in &manifest.files {
        check_size(step_directory.join(name), entry.bytes)?;
    }
    Ok(manifest)
}

fn check_size(path: PathBuf, expected: u64) -> Result<(), CheckpointError> {
    match fs::metadata(&path) {
        Ok(metadata) if !metadata.is_file() => Err(CheckpointError::NotAFile { path }),
        Ok(metadata) if metadata.len() != expected => {
            Err(CheckpointError::FileSize { path, found: metadata.len(), expected })
        }
        Ok(_) => Ok(()),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Err(CheckpointError::FileMissing { path }),
        Err(cause) => Err(CheckpointError::io("open", &path)(cause)),
    }
}

/// The model that `path` means: a step directory (verified), a run directory (its newest step that verifies), any
/// directory with `config.json` and weights in one file or with an index, or a `.gguf` file. Takes no lock: the run may be
/// going on.
///
/// # Errors
/// There is no model, or the step or all steps of the run are damaged.
pub fn resolve(path: &Path) -> Result<Resolved, CheckpointError> {
    if !path.exists() {
        return Err(CheckpointError::NotFound { path: path.to_owned() });
    }
    if path.join(MANIFEST_FILE).exists() || step_of(path).is_some() {
        let manifest = verify(path)?;
        return Ok(Resolved { path: path.to_owned(), manifest: Some(manifest), skipped: Vec::new() });
    }
    let weights = [WEIGHTS_FILE, WEIGHTS_INDEX].iter().any(|name| path.join(name).is_file());
    if is_gguf(path) || (path.join("config.json").is_file() && weights) {
        return Ok(Resolved { path: path.to_owned(), manifest: None, skipped: Vec::new() });
    }
    resolve_run(path)
}

/// Whether `path` is a GGUF file, by its name.
pub fn is_gguf(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

fn resolve_run(path: &Path) -> Result<Resolved, CheckpointError> {
    let path = path.to_owned();
    if !path.is_dir() {
        return Err(CheckpointError::NotAModel { path });
    }
    let Newest { checkpoint, skipped } = newest(&path)?;
    match checkpoint {
        Some(Checkpoint { path, manifest }) => Ok(Resolved { path, manifest: Some(manifest), skipped }),
        None if skipped.is_empty() => Err(CheckpointError::NotAModel { path }),
        None => {
            let reasons = skipped.iter().map(|skipped| skipped.reason.to_string()).collect::<Vec<_>>().join("; ");
            Err(CheckpointError::NoneValid { path, reasons })
        }
    }
}

/// Verifies from the newest step on until one holds.
pub(crate) fn newest(run: &Path) -> Result<Newest, CheckpointError> {
    let mut skipped = Vec::new();
    for (_, path) in steps(run)?.into_iter().rev() {
        match verify(&path) {
            Ok(manifest) => return Ok(Newest { checkpoint: Some(Checkpoint { path, manifest }), skipped }),
            Err(reason) => skipped.push(Skipped { path, reason }),
        }
    }
    Ok(Newest { checkpoint: None, skipped })
}

/// The step directories of a run, oldest first, damaged ones too.
pub(crate) fn steps(run: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let mut steps = Vec::new();
    for entry in fs::read_dir(run).map_err(CheckpointError::io("list", run))? {
        let path = entry.map_err(CheckpointError::io("list", run))?.path();
        if let Some(step) = step_of(&path) {
            steps.push((step, path));
        }
    }
    steps.sort_unstable();
    Ok(steps)
}

/// The name of a step's directory. Eight digits sort as text; a later step has more.
pub(crate) fn step_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The step in a directory's name, if it is exactly a [`step_name`].
fn step_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (step_name(step) == name).then_some(step)
}
