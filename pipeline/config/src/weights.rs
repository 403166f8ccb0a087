//! `[start]`, `[teacher]` and `[distill]`: whose weights, whose logits, which loss.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::rules;

/// `[start]`: where the weights come from.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum StartSection {
    /// Random weights of shape `[model]`.
    Random {},
    /// The weights, shape and tokenizer of a model directory.
    Checkpoint {
        /// A step directory, a run directory (its newest valid step), or a Hugging Face directory.
        from: PathBuf,
    },
}

/// `[teacher]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherSection {
    /// A step directory, a run directory (its newest valid step), or a Hugging Face directory.
    pub from: PathBuf,
}

/// How far the student's distribution is from the teacher's.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Divergence {
    /// KL(teacher ‖ student).
    ForwardKl {},
}

/// `[distill]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DistillSection {
    /// The loss between teacher and student.
    #[serde(default = "forward_kl")]
    pub divergence: Divergence,
    /// Divides both models' logits in the divergence, which is then multiplied by its square.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Weight of cross-entropy on the data; the divergence has the rest. 0 and 1 are the pure losses.
    #[serde(default)]
    pub ce_weight: f64,
}

fn one() -> f64 {
    1.0
}

fn forward_kl() -> Divergence {
    Divergence::ForwardKl {}
}

impl StartSection {
    /// Checks what the section asks of `[model]` and `data.tokenizer`.
    pub(crate) fn check(&self, has_model: bool, has_tokenizer: bool, problems: &mut Vec<Problem>) {
        match self {
            Self::Random {} => {
                let hint = "or go on from a model: [start] with kind = `checkpoint` and from = its directory";
                if !has_model {
                    let rule = "start.kind = `random` needs a shape";
                    let hint = format!("add [model] with hidden_size and so on, {hint}");
                    problems.push(Problem::missing("model", rule).reads("start").hint(hint));
                }
                if !has_tokenizer {
                    let rule = "start.kind = `random` needs one";
                    let hint = format!("name the `tokenizer.json` that prepare wrote, {hint}");
                    problems.push(Problem::missing("data.tokenizer", rule).reads("start").hint(hint));
                }
            }
            Self::Checkpoint { from } => {
                check_directory("start.from", from, problems);
                if has_model {
                    problems.push(
                        Problem::worded("model", "is given, but start.kind = `checkpoint` has its own shape")
                            .reads("start")
                            .hint("leave [model] out (--set model=), or use start.kind = `random`"),
                    );
                }
            }
        }
    }
}

impl TeacherSection {
    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        check_directory("teacher.from", &self.from, problems);
    }
}

impl DistillSection {
    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        rules::positive(problems, "distill.temperature", self.temperature, "1.0");
        rules::fraction(problems, "distill.ce_weight", self.ce_weight);
    }
}

impl Default for DistillSection {
    /// Forward KL alone, at temperature 1.
    fn default() -> Self {
        Self { divergence: forward_kl(), temperature: one(), ce_weight: 0.0 }
    }
}

/// A model directory: whether it is there is found out when it is opened.
pub(crate) fn check_directory(key: &str, directory: &Path, problems: &mut Vec<Problem>) {
    rules::not_empty(problems, key, &directory.to_string_lossy(), "checkpoints/tiny/teacher");
}
