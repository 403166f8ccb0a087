//! `[start]` and `[distill]`: whose weights, which loss.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::capture::TeacherSection;
use crate::hidden::HiddenSection;
use crate::problem::Problem;
use crate::prune::PruneSection;
use crate::rules;

/// `[start]`: where the weights come from.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum StartSection {
    /// Random weights of shape `[model]`.
    Random {},
    /// The weights, shape and tokenizer of a model.
    Checkpoint {
        /// A step directory, a run directory (its newest valid step), a Hugging Face directory, or a GGUF file.
        from: PathBuf,
    },
    /// What matters most of the weights of a model directory.
    Prune(PruneSection),
}

/// How far the student's distribution q is from the teacher's, p. The definitions are in `limbeck-loss`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Divergence {
    /// KL(p ‖ q).
    ForwardKl {},
    /// KL(q ‖ p).
    ReverseKl {},
    /// KL(p ‖ α p + (1 - α) q).
    SkewedForwardKl {
        /// From 0, forward KL, to under 1.
        #[serde(default = "a_tenth")]
        alpha: f64,
    },
    /// KL(q ‖ (1 - α) p + α q).
    SkewedReverseKl {
        /// From 0, reverse KL, to under 1.
        #[serde(default = "a_tenth")]
        alpha: f64,
    },
    /// β KL(p ‖ m) + (1 - β) KL(q ‖ m), m = β p + (1 - β) q.
    JensenShannon {
        /// From 0, forward KL, to 1, reverse KL.
        #[serde(default = "a_half")]
        beta: f64,
        /// Divides by β (1 - β), without which both ends jump.
        #[serde(default = "yes")]
        normalised: bool,
    },
    /// ½ Σ |p - q|.
    TotalVariation {},
}

/// `[distill]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DistillSection {
    /// The loss between teacher and student.
    #[serde(default = "forward_kl")]
    pub divergence: Divergence,
    /// Divides both models' logits in the divergence.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Multiplies the divergence by the square of the temperature.
    #[serde(default = "yes")]
    pub scale_by_temperature_squared: bool,
    /// Weight of cross-entropy on the data; the divergence has the rest. 0 and 1 are the pure losses.
    #[serde(default)]
    pub ce_weight: f64,
    /// A term for hidden states, besides both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<HiddenSection>,
}

fn one() -> f64 {
    1.0
}

fn a_half() -> f64 {
    0.5
}

/// DistiLLM's (arXiv:2402.03898).
fn a_tenth() -> f64 {
    0.1
}

fn yes() -> bool {
    true
}

fn forward_kl() -> Divergence {
    Divergence::ForwardKl {}
}

impl Divergence {
    /// The name of its kind in a config.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ForwardKl {} => "forward_kl",
            Self::ReverseKl {} => "reverse_kl",
            Self::SkewedForwardKl { .. } => "skewed_forward_kl",
            Self::SkewedReverseKl { .. } => "skewed_reverse_kl",
            Self::JensenShannon { .. } => "jensen_shannon",
            Self::TotalVariation {} => "total_variation",
        }
    }

    fn check(&self, problems: &mut Vec<Problem>) {
        match *self {
            Self::ForwardKl {} | Self::ReverseKl {} | Self::TotalVariation {} => {}
            Self::SkewedForwardKl { alpha } | Self::SkewedReverseKl { alpha } => {
                // At 1 both sides are the same distribution, and there is nothing to learn.
                rules::under_one(problems, "distill.divergence.alpha", alpha, "`0.1` is usual");
            }
            Self::JensenShannon { beta, .. } => rules::fraction(problems, "distill.divergence.beta", beta),
        }
    }
}

impl StartSection {
    /// The model directory that it names.
    pub fn from(&self) -> Option<&Path> {
        match self {
            Self::Random {} => None,
            Self::Checkpoint { from } | Self::Prune(PruneSection { from, .. }) => Some(from),
        }
    }

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
                    let hint = format!(
                        "name the `tokenizer.json` that prepare wrote, a model that has one, such as the teacher, {hint}"
                    );
                    problems.push(Problem::missing("data.tokenizer", rule).reads("start").hint(hint));
                }
            }
            Self::Checkpoint { from } => {
                check_directory("start.from", from, problems);
                refuse_model("checkpoint", has_model, problems);
            }
            Self::Prune(section) => {
                section.check(problems);
                refuse_model("prune", has_model, problems);
            }
        }
    }
}

/// What starts from a model has its shape.
fn refuse_model(kind: &str, has_model: bool, problems: &mut Vec<Problem>) {
    if has_model {
        problems.push(
            Problem::worded("model", format!("is given, but start.kind = `{kind}` has its own shape"))
                .reads("start")
                .hint("leave [model] out (--set model=), or use start.kind = `random`"),
        );
    }
}

impl DistillSection {
    /// The section of hidden states, where their term is in the loss.
    pub fn alignment(&self) -> Option<&HiddenSection> {
        self.hidden.as_ref().filter(|hidden| hidden.is_on())
    }

    pub(crate) fn check(&self, teacher: Option<&TeacherSection>, problems: &mut Vec<Problem>) {
        self.divergence.check(problems);
        rules::positive(problems, "distill.temperature", self.temperature, "1.0");
        rules::fraction(problems, "distill.ce_weight", self.ce_weight);
        if let Some(hidden) = &self.hidden {
            hidden.check(teacher, problems);
        }
    }
}

impl Default for DistillSection {
    /// Forward KL alone, at temperature 1.
    fn default() -> Self {
        Self {
            divergence: forward_kl(),
            temperature: one(),
            scale_by_temperature_squared: yes(),
            ce_weight: 0.0,
            hidden: None,
        }
    }
}

/// A model directory: whether it is there is found out when it is opened.
pub(crate) fn check_directory(key: &str, directory: &Path, problems: &mut Vec<Problem>) {
    rules::not_empty(problems, key, &directory.to_string_lossy(), "checkpoints/tiny/teacher");
}
