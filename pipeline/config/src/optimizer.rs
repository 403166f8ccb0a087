//! `[optimizer]` and `[schedule]`.

use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::rules;

/// Settings of the parameters whose name matches.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// A glob over parameter names, such as `*.embed_tokens.weight`. The first group that matches counts.
    pub parameters: String,
    /// Factor on the learning rate.
    #[serde(default = "one")]
    pub learning_rate_scale: f64,
    /// Decoupled weight decay; default: `optimizer.weight_decay` for matrices, 0 for vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

/// `[optimizer]`: AdamW with decoupled decay (Loshchilov and Hutter 2019, arXiv:1711.05101).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSection {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    #[serde(default = "beta_1")]
    pub beta_1: f64,
    /// Decay of the second moment.
    #[serde(default = "beta_2")]
    pub beta_2: f64,
    /// Added to the denominator.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// Decoupled weight decay of matrices; vectors have none.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// Largest global norm of the gradient.
    #[serde(default = "one")]
    pub max_grad_norm: f64,
    /// Exceptions by parameter name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParameterGroup>,
}

/// `[schedule]`: the learning rate's factor over the steps.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleSection {
    /// Linear warm-up, then half a cosine down to `final_ratio`.
    Cosine {
        /// Steps of warm-up.
        warmup_steps: u64,
        /// Last learning rate over the peak.
        #[serde(default = "a_tenth")]
        final_ratio: f64,
    },
    /// Linear warm-up, flat, then linear decay over the last `decay_steps` (MiniCPM, arXiv:2404.06395).
    WarmupStableDecay {
        /// Steps of warm-up.
        warmup_steps: u64,
        /// Steps of decay.
        decay_steps: u64,
        /// Last learning rate over the peak.
        #[serde(default)]
        final_ratio: f64,
    },
}

fn one() -> f64 {
    1.0
}

fn beta_1() -> f64 {
    0.9
}

fn beta_2() -> f64 {
    0.95
}

fn epsilon() -> f64 {
    1e-8
}

fn weight_decay() -> f64 {
    0.1
}

fn a_tenth() -> f64 {
    0.1
}

impl OptimizerSection {
    /// The defaults at a learning rate.
    pub fn new(learning_rate: f64) -> Self {
        Self {
            learning_rate,
            beta_1: beta_1(),
            beta_2: beta_2(),
            epsilon: epsilon(),
            weight_decay: weight_decay(),
            max_grad_norm: one(),
            groups: Vec::new(),
        }
    }

    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        rules::positive(problems, "optimizer.learning_rate", self.learning_rate, "0.001");
        for (key, beta) in [("optimizer.beta_1", self.beta_1), ("optimizer.beta_2", self.beta_2)] {
            rules::under_one(problems, key, beta, "`0.9` and `0.95` are usual");
        }
        rules::positive(problems, "optimizer.epsilon", self.epsilon, "1e-8");
        rules::not_negative(problems, "optimizer.weight_decay", self.weight_decay);
        rules::positive(problems, "optimizer.max_grad_norm", self.max_grad_norm, "1.0");
        for (index, group) in self.groups.iter().enumerate() {
            group.check(&format!("optimizer.groups.{index}"), problems);
        }
    }
}

impl ParameterGroup {
    fn check(&self, key: &str, problems: &mut Vec<Problem>) {
        let parameters = format!("{key}.parameters");
        rules::not_empty(problems, &parameters, &self.parameters, "*.embed_tokens.weight");
        rules::glob(problems, &parameters, &self.parameters);
        rules::not_negative(problems, &format!("{key}.learning_rate_scale"), self.learning_rate_scale);
        if let Some(weight_decay) = self.weight_decay {
            rules::not_negative(problems, &format!("{key}.weight_decay"), weight_decay);
        }
    }
}

impl ScheduleSection {
    /// `max_steps`: `None` where it is not known, for another reason that is reported.
    pub(crate) fn check(&self, max_steps: Option<u64>, problems: &mut Vec<Problem>) {
        let (warmup_steps, decay_steps, final_ratio) = match *self {
            Self::Cosine { warmup_steps, final_ratio } => (warmup_steps, None, final_ratio),
            Self::WarmupStableDecay { warmup_steps, decay_steps, final_ratio } => {
                (warmup_steps, Some(decay_steps), final_ratio)
            }
        };
        rules::fraction(problems, "schedule.final_ratio", final_ratio);
        let Some(max_steps) = max_steps else { return };
        if warmup_steps.saturating_add(decay_steps.unwrap_or(0)) <= max_steps {
            return;
        }
        let decay = decay_steps.map(|steps| format!("with schedule.decay_steps = `{steps}` ")).unwrap_or_default();
        problems.push(
            Problem::new(
                "schedule.warmup_steps",
                warmup_steps,
                format!("must {decay}fit in the run's `{max_steps}` steps"),
            )
            .hint(match decay_steps {
                None => format!("use at most `{max_steps}`, or more steps in [train]"),
                Some(_) => format!("use at most `{max_steps}` for the sum of both, or more steps in [train]"),
            })
            .reads("schedule.decay_steps")
            .reads("train.max_steps")
            .reads("train.max_tokens")
            .reads("train.tokens_per_step"),
        );
    }
}
