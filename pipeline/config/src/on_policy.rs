//! `[on_policy]`: steps that learn from what the student itself says.

use serde::{Deserialize, Serialize};

use crate::capture::TeacherSection;
use crate::problem::Problem;
use crate::rules;

/// `[on_policy]`: in some steps the student goes on from prompts of `[[data.train]]`, and the teacher's distribution over
/// those continuations is what is learned (Agarwal et al. 2024, arXiv:2306.13649).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OnPolicySection {
    /// Share of the optimizer steps, evenly spread; GKD's λ.
    pub fraction: f64,
    /// Tokens of a document's piece that are its prompt; of a chat it is everything up to a turn of the assistant.
    pub prompt_tokens: usize,
    /// Tokens of a continuation at most.
    pub max_new_tokens: usize,
    /// Divides the student's logits when it samples; 0 takes the most likely token.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Samples among this many tokens only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Samples among the tokens that together reach this probability only.
    #[serde(default = "one")]
    pub top_p: f64,
}

fn one() -> f64 {
    1.0
}

impl OnPolicySection {
    /// Whether the `step`-th step, counted from 1, is one of them: of the first n steps, `fraction · n` are, rounded down.
    pub fn is_due(&self, step: u64) -> bool {
        let until = |step: u64| (step as f64 * self.fraction).floor();
        until(step) > until(step.saturating_sub(1))
    }

    pub(crate) fn check(&self, sequence_length: usize, teacher: Option<&TeacherSection>, problems: &mut Vec<Problem>) {
        rules::fraction(problems, "on_policy.fraction", self.fraction);
        rules::at_least(problems, "on_policy.prompt_tokens", self.prompt_tokens as u64, 1);
        rules::at_least(problems, "on_policy.max_new_tokens", self.max_new_tokens as u64, 1);
        let room = sequence_length.saturating_sub(self.prompt_tokens);
        if self.prompt_tokens > 0 && self.max_new_tokens > room {
            let (prompt, length) = (self.prompt_tokens, sequence_length);
            let rule =
                format!("must with on_policy.prompt_tokens = `{prompt}` be at most data.sequence_length = `{length}`");
            problems.push(
                Problem::new("on_policy.max_new_tokens", self.max_new_tokens, rule)
                    .reads("on_policy.prompt_tokens")
                    .reads("data.sequence_length")
                    .hint("prompt and continuation are one row; lower one of the two"),
            );
        }
        check_sampling("on_policy", self.temperature, self.top_k, self.top_p, problems);
        if self.fraction > 0.0 && teacher.is_some_and(|teacher| teacher.from.is_none() && teacher.logits.is_some()) {
            let rule = "needs teacher.from: captured logits are of the data alone, not of what the student will say";
            problems.push(
                Problem::new("on_policy.fraction", format!("{:?}", self.fraction), rule)
                    .reads("teacher")
                    .hint("give teacher.from too: the logits then serve the other steps; or use a fraction of `0`"),
            );
        }
    }
}

/// The rules of sampling, in the section `section`.
pub(crate) fn check_sampling(
    section: &str,
    temperature: f64,
    top_k: Option<usize>,
    top_p: f64,
    problems: &mut Vec<Problem>,
) {
    rules::not_negative(problems, &format!("{section}.temperature"), temperature);
    if let Some(top_k) = top_k {
        rules::at_least(problems, &format!("{section}.top_k"), top_k as u64, 1);
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        problems.push(
            Problem::new(format!("{section}.top_p"), format!("{top_p:?}"), "must be over `0` and at most `1`")
                .hint("`1.0` samples among all tokens"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_steps_is_the_fraction_and_they_are_evenly_spread() {
        let due = |fraction: f64, steps: u64| -> Vec<u64> {
            let section = OnPolicySection {
                fraction,
                prompt_tokens: 1,
                max_new_tokens: 1,
                temperature: 1.0,
                top_k: None,
                top_p: 1.0,
            };
            (1..=steps).filter(|step| section.is_due(*step)).collect()
        };
        assert_eq!(due(0.0, 1000), [0; 0]);
        assert_eq!(due(1.0, 5), [1, 2, 3, 4, 5]);
        assert_eq!(due(0.25, 12), [4, 8, 12]);
        assert_eq!(due(0.4, 10), [3, 5, 8, 10]);
        // In 32 bits the sum of tenths would be off long before.
        assert_eq!(due(0.1, 1_000_000).len(), 100_000);
    }
}
