//! `[start]` with `kind = "prune"`: what a student is cut from, and to which shape.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::ModelConfig;
use crate::problem::Problem;
use crate::rules;
use crate::weights::check_directory;

/// What a student is cut from. A size that is not given stays that of `from`.
///
/// The sizes stand here and not in `[model]`, where most keys are required and the others have defaults of their own: what is
/// cut has the teacher's layout, width of a head, norms and rotary angles.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PruneSection {
    /// The teacher, as `start.from` of `kind = "checkpoint"`.
    pub from: PathBuf,
    /// Blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_hidden_layers: Option<usize>,
    /// Width of the residual stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<usize>,
    /// Width of the feed-forward layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<usize>,
    /// Query heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_attention_heads: Option<usize>,
    /// Key and value heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<usize>,
    /// Tokens of the training data on which importance is measured, padding included, rounded up to whole rows.
    #[serde(default = "calibration_tokens")]
    pub calibration_tokens: usize,
}

fn calibration_tokens() -> usize {
    8192
}

impl PruneSection {
    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        check_directory("start.from", &self.from, problems);
        let sizes = [
            ("start.num_hidden_layers", self.num_hidden_layers),
            ("start.hidden_size", self.hidden_size),
            ("start.intermediate_size", self.intermediate_size),
            ("start.num_attention_heads", self.num_attention_heads),
            ("start.num_key_value_heads", self.num_key_value_heads),
            ("start.calibration_tokens", Some(self.calibration_tokens)),
        ];
        for (key, size) in sizes {
            if let Some(size) = size {
                rules::at_least(problems, key, size as u64, 1);
            }
        }
    }

    /// The shape to which a model of shape `whole` is cut, with a vocabulary of `vocab_size` tokens.
    ///
    /// # Errors
    /// Sizes over those of `whole`; heads that do not share key-value heads evenly, or more of them a key-value head than
    /// `whole` has; nothing to cut.
    pub fn resolve(&self, whole: &ModelConfig, vocab_size: usize) -> Result<ModelConfig, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut size = |key: &str, asked: Option<usize>, whole: usize| {
            let asked = asked.unwrap_or(whole);
            if asked > whole {
                let rule = format!("must be at most that of start.from, `{whole}`: a cut only takes away");
                problems.push(Problem::new(format!("start.{key}"), asked, rule).hint(format!("use `{whole}` or less")));
            }
            asked
        };
        let shape = ModelConfig {
            vocab_size,
            num_hidden_layers: size("num_hidden_layers", self.num_hidden_layers, whole.num_hidden_layers),
            hidden_size: size("hidden_size", self.hidden_size, whole.hidden_size),
            intermediate_size: size("intermediate_size", self.intermediate_size, whole.intermediate_size),
            num_attention_heads: size("num_attention_heads", self.num_attention_heads, whole.num_attention_heads),
            num_key_value_heads: size("num_key_value_heads", self.num_key_value_heads, whole.num_key_value_heads),
            ..whole.clone()
        };
        check_heads(&shape, whole, &mut problems);
        if shape == *whole {
            problems.push(
                Problem::worded("start", "has kind = `prune`, but nothing is smaller than in start.from")
                    .hint("give one of its sizes, such as num_hidden_layers, or use kind = `checkpoint`"),
            );
        }
        if problems.is_empty() { Ok(shape) } else { Err(problems) }
    }
}

/// Query heads that share a key-value head go or stay with it.
fn check_heads(shape: &ModelConfig, whole: &ModelConfig, problems: &mut Vec<Problem>) {
    let (heads, groups) = (shape.num_attention_heads, shape.num_key_value_heads);
    if !heads.is_multiple_of(groups.max(1)) {
        let rule = format!("must be a multiple of the `{groups}` key-value heads");
        problems.push(
            Problem::new("start.num_attention_heads", heads, rule)
                .hint(format!("{}, or set start.num_key_value_heads", rules::nearest_multiples(heads, groups))),
        );
        return;
    }
    let most = whole.num_attention_heads / whole.num_key_value_heads;
    if heads / groups.max(1) > most {
        let rule = format!("gives each key-value head `{}` query heads, must be at most the `{most}` of start.from", {
            heads / groups.max(1)
        });
        problems.push(
            Problem::new("start.num_key_value_heads", groups, rule)
                .hint(format!("use start.num_attention_heads = `{}`, or more key-value heads", groups * most)),
        );
    }
}
