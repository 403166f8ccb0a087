//! One model of a report.

use std::path::Path;

use limbeck_train::Comparison;
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::failure::Failure;
use crate::gap::Cost;
use crate::source::Source;

/// A model with its scores and what it cost.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Arm {
    /// The model directory.
    pub path: String,
    /// Numbers that were learnt.
    pub parameters: usize,
    /// Size of the weights' files.
    pub bytes: u64,
    /// What its training took.
    pub cost: Cost,
    /// Its scores.
    pub comparison: Comparison,
}

/// A student that was trained by cross-entropy alone.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Twin {
    /// What it has in common with the student.
    pub control: Control,
    /// The model.
    pub arm: Arm,
}

impl Arm {
    /// # Errors
    /// If the size of its files cannot be read.
    pub(super) fn new(source: &Source, comparison: Comparison, cost: Cost) -> Result<Self, Failure> {
        let parameters = source.model.config().parameter_count();
        let bytes = bytes(&source.path).map_err(Failure::run)?;
        Ok(Self { path: source.path.display().to_string(), parameters, bytes, cost, comparison })
    }
}

/// Of a file, or of the safetensors files in a directory.
fn bytes(path: &Path) -> std::io::Result<u64> {
    let metadata = path.metadata()?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    let mut bytes = 0;
    for entry in path.read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("model") && entry.path().extension().is_some_and(|e| e == "safetensors") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
