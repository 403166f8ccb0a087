//! `[teacher]` and `[capture]`: whose logits, and how they are kept.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::rules;
use crate::weights::check_directory;

/// `[teacher]`: a model that runs beside the student, or its logits, captured before.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherSection {
    /// A step directory, a run directory (its newest valid step), a Hugging Face directory, or a GGUF file. With `logits`,
    /// what they are captured from, and must have been captured from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// A directory that `distill --capture` writes and a training reads in the teacher's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logits: Option<PathBuf>,
}

/// What is kept of a teacher's distribution at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LogitsCodec {
    /// Ids drawn from it, as counts: unbiased for forward KL at the captured temperature alone.
    RandomSampling {
        /// Draws of a position.
        #[serde(default = "fifty")]
        draws: u32,
        /// Independent draws of the whole data: each epoch takes the next one.
        #[serde(default = "one")]
        sets: u32,
    },
    /// The most probable ids, and what is left over as one sum: the divergence of the coarsened distribution.
    TopK {
        /// Ids of a position.
        k: u32,
    },
    /// Every logit, in 32 bits: `4 * vocab_size` bytes a token before compression.
    Full {},
}

/// `[capture]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureSection {
    /// What is kept.
    #[serde(default = "random_sampling")]
    pub codec: LogitsCodec,
    /// From what the draws of random sampling come; default: `run.seed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// Counts are kept in 16 bits.
const MOST_DRAWS: u32 = u16::MAX as u32;
/// A set is a row of the cache for every segment.
const MOST_SETS: u32 = 1024;

fn fifty() -> u32 {
    50
}

fn one() -> u32 {
    1
}

fn random_sampling() -> LogitsCodec {
    LogitsCodec::RandomSampling { draws: fifty(), sets: one() }
}

impl TeacherSection {
    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        if self.from.is_none() && self.logits.is_none() {
            problems.push(
                Problem::missing("teacher.from", "and so is teacher.logits: one of them must be given")
                    .reads("teacher.logits")
                    .hint("set from to a run directory such as `checkpoints/tiny/sft`"),
            );
        }
        for (key, path) in [("teacher.from", &self.from), ("teacher.logits", &self.logits)] {
            if let Some(path) = path {
                check_directory(key, path, problems);
            }
        }
    }
}

impl CaptureSection {
    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        match self.codec {
            LogitsCodec::RandomSampling { draws, sets } => {
                rules::between(problems, "capture.codec.draws", draws, 1, MOST_DRAWS);
                rules::between(problems, "capture.codec.sets", sets, 1, MOST_SETS);
            }
            LogitsCodec::TopK { k } => rules::at_least(problems, "capture.codec.k", u64::from(k), 1),
            LogitsCodec::Full {} => {}
        }
    }
}

impl Default for CaptureSection {
    /// Random sampling with 50 draws, one set, from the run's seed.
    fn default() -> Self {
        Self { codec: random_sampling(), seed: None }
    }
}
