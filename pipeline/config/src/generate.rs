//! `[generate]`: answers that the teacher writes.

use serde::{Deserialize, Serialize};

use crate::on_policy::check_sampling;
use crate::problem::Problem;
use crate::rules;

/// `[generate]`: for `distill --generate`, how the teacher answers the conversations of `[[data.train]]` (sequence-level
/// distillation, Kim and Rush 2016, arXiv:1606.07947).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateSection {
    /// Tokens of an answer at most.
    #[serde(default = "max_new_tokens")]
    pub max_new_tokens: usize,
    /// Answers to each prompt.
    #[serde(default = "one_answer")]
    pub samples_per_prompt: u32,
    /// Divides the teacher's logits; 0 takes the most likely token.
    #[serde(default)]
    pub temperature: f64,
    /// Samples among this many tokens only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Samples among the tokens that together reach this probability only.
    #[serde(default = "all")]
    pub top_p: f64,
    /// Answers that are written at once.
    #[serde(default = "batch_size")]
    pub batch_size: usize,
    /// Whether answers that were cut off at `max_new_tokens` are kept.
    #[serde(default)]
    pub keep_unfinished: bool,
}

fn max_new_tokens() -> usize {
    128
}

fn one_answer() -> u32 {
    1
}

fn all() -> f64 {
    1.0
}

fn batch_size() -> usize {
    32
}

/// Their rows of a prompt stand together.
const MOST_SAMPLES: u32 = 1024;

impl GenerateSection {
    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        rules::at_least(problems, "generate.max_new_tokens", self.max_new_tokens as u64, 1);
        rules::at_least(problems, "generate.batch_size", self.batch_size as u64, 1);
        rules::between(problems, "generate.samples_per_prompt", self.samples_per_prompt, 1, MOST_SAMPLES);
        check_sampling("generate", self.temperature, self.top_k, self.top_p, problems);
        if self.samples_per_prompt > 1 && self.temperature == 0.0 {
            let rule = "needs generate.temperature over `0`: the most likely answer is always the same";
            problems.push(
                Problem::new("generate.samples_per_prompt", self.samples_per_prompt, rule)
                    .reads("generate.temperature")
                    .hint("set the temperature to `1.0`, or take one sample"),
            );
        }
    }
}

impl Default for GenerateSection {
    /// The most likely answer of at most 128 tokens, one a prompt.
    fn default() -> Self {
        Self {
            max_new_tokens: max_new_tokens(),
            samples_per_prompt: one_answer(),
            temperature: 0.0,
            top_k: None,
            top_p: all(),
            batch_size: batch_size(),
            keep_unfinished: false,
        }
    }
}
