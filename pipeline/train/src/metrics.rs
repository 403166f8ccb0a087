//! `metrics.jsonl`: one JSON object a logged step.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// A row of `metrics.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct MetricsRow {
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens read, padding included.
    pub tokens_seen: u64,
    /// Mean training loss of the step over its target tokens; `distill`: of its mixed loss.
    pub loss_nats: f32,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Global norm of the gradient, before clipping.
    pub grad_norm: f32,
    /// Since the row before, evaluations and checkpoints left out.
    pub tokens_per_s: f64,
    /// With `[on_policy]`: whether the step learned from the student's own samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_policy: Option<bool>,
    /// With `[on_policy]`: tokens that the student sampled since the row before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled_tokens: Option<u64>,
    /// With `[on_policy]`: seconds that this took, which are part of the steps' time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling_s: Option<f64>,
    /// Mean held-out loss over all target tokens, after the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_loss_nats: Option<f64>,
    /// Held-out bits per byte, after the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_bits_per_byte: Option<f64>,
    /// With `train.fake_quant`: the grid of the weights that were scored, as they ship.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_weights: Option<String>,
}

/// The file, open for appending.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the file of a run that stands at `step`: later rows, of an interrupted attempt, are cut off, and so is a
    /// row that was not written to its end.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn open(path: &Path, step: u64) -> Result<Self, TrainError> {
        let error = |source| TrainError::Metrics { path: path.to_owned(), source };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(error(source)),
        };
        let kept: String =
            text.split_inclusive('\n').filter(|line| line.ends_with('\n') && is_until(line, step)).collect();
        if kept != text {
            limbeck_checkpoint::write_atomically(path, kept)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(error)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn write(&mut self, row: &MetricsRow) -> Result<(), TrainError> {
        let error = |source| TrainError::Metrics { path: self.path.clone(), source };
        let line = serde_json::to_string(row).map_err(|source| error(source.into()))?;
        writeln!(self.file, "{line}").map_err(error)
    }
}

fn is_until(line: &str, step: u64) -> bool {
    serde_json::from_str::<MetricsRow>(line).is_ok_and(|row| row.step <= step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_after_the_resumed_step_and_torn_rows_are_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path, 0).unwrap();
        for step in 1..=4 {
            metrics.write(&MetricsRow { step, ..MetricsRow::default() }).unwrap();
        }
        write!(metrics.file, "{{\"step\": 1, \"tok").unwrap();
        let mut metrics = Metrics::open(&path, 2).unwrap();
        metrics.write(&MetricsRow { step: 3, loss_nats: 0.5, ..MetricsRow::default() }).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let rows: Vec<MetricsRow> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.iter().map(|row| row.step).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(rows[2].loss_nats, 0.5);
    }
}
