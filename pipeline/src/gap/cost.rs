//! What a training took.

use std::path::Path;

use anyhow::Context;
use limbeck_config::{ModelConfig, TrainingConfig};
use limbeck_train::MetricsRow;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::source::Source;
use crate::tokenised;

/// What a training took; all 0 where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Cost {
    /// Tokens that were trained on, padding included.
    pub tokens: u64,
    /// Multiplications and additions: the student's, forward and backward, and its teacher's, forward. A teacher whose logits
    /// were captured counts once for all rows of the data. Rows count as full, of one segment each.
    pub flops: f64,
    /// In steps, evaluations and checkpoints left out; as measured, without those of a capture.
    pub seconds: f64,
}

impl Cost {
    /// Of the run in `directory`, which trained `student` beside `teacher`, if it had one.
    ///
    /// # Errors
    /// If its metrics or its data cannot be read.
    pub(super) fn of_run(
        config: &TrainingConfig,
        directory: &Path,
        student: &Source,
        teacher: Option<&Source>,
    ) -> Result<Self, Failure> {
        let path = directory.join("metrics.jsonl");
        let read = || -> anyhow::Result<Vec<MetricsRow>> {
            let text = std::fs::read_to_string(&path)?;
            text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
        };
        let rows = read().with_context(|| path.display().to_string()).map_err(Failure::run)?;
        let (mut tokens, mut seconds) = (0, 0.0);
        for row in rows {
            seconds += (row.tokens_seen - tokens) as f64 / row.tokens_per_s;
            tokens = row.tokens_seen;
        }
        let taught = teacher.map(|teacher| teacher_flops(config, student, teacher, tokens)).transpose()?;
        Ok(Self { tokens, flops: student_flops(config, student, tokens) + taught.unwrap_or(0.0), seconds })
    }
}

/// Of training `student` on `tokens`.
pub(crate) fn student_flops(config: &TrainingConfig, student: &Source, tokens: u64) -> f64 {
    3.0 * forward(student.model.config(), config, tokens)
}

/// Of the forward passes of `teacher` for a student that trains on `tokens`.
///
/// # Errors
/// If the data cannot be read.
pub(crate) fn teacher_flops(
    config: &TrainingConfig,
    student: &Source,
    teacher: &Source,
    tokens: u64,
) -> Result<f64, Failure> {
    let captured = config.teacher.as_ref().is_some_and(|section| section.logits.is_some());
    let tokens = if captured {
        let data = tokenised::open(config, &config.data.train, &student.tokenizer)?;
        data.fixed_rows() * config.data.sequence_length as u64
    } else {
        tokens
    };
    Ok(forward(teacher.model.config(), config, tokens))
}

fn forward(model: &ModelConfig, config: &TrainingConfig, tokens: u64) -> f64 {
    model.forward_flops(tokens, tokens * (config.data.sequence_length as u64 + 1) / 2) as f64
}
