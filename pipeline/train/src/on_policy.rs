//! Steps that learn from what the student itself says.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use limbeck_config::OnPolicySection;
use limbeck_data::{Batch, Mixture, Rollout};
use limbeck_kernels::Precision;
use limbeck_model::{Generation, Sampling, Transformer, generate_in_batches};

use crate::error::TrainError;
use crate::objective::{Distillation, Objective};

/// On-policy distillation (Agarwal et al. 2024, arXiv:2306.13649): in some steps the student goes on from prompts, and
/// learns the teacher's distribution over what it said, token by token.
///
/// The gradient is that of the divergence on the sampled tokens; how the weights change what is sampled has no part in it,
/// as in GKD and unlike in MiniLLM (arXiv:2306.08543), whose policy gradient adds that.
#[derive(Debug)]
pub struct OnPolicy {
    /// How often, from which prompts, and how the student samples.
    pub section: OnPolicySection,
    /// The divergence alone, towards a teacher that runs. Cross-entropy would teach the student to repeat itself.
    pub objective: Distillation,
    /// Tokens that end a continuation, and are part of it.
    pub stop: Vec<u32>,
    /// Of the draws: those of a step are a function of it, the step and the student's weights.
    pub seed: u64,
}

/// What one step learns.
pub struct Lesson<'a> {
    /// From which loss.
    pub objective: &'a dyn Objective,
    /// On which rows.
    pub batch: Batch,
    /// Whether the student wrote them, and what that took.
    pub sampled: Option<Sampled>,
}

/// What sampling came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// Tokens of the continuations.
    pub tokens: u64,
    /// Time.
    pub elapsed: Duration,
}

impl OnPolicy {
    /// The rows that a step learns from instead of `rows`, those that the data has for it. `None` where the step is not
    /// one of the fraction, or nothing in the rows is a prompt that leaves room.
    ///
    /// The student samples in 32-bit floats, without autodiff, as many prompts at once as a micro-batch has rows.
    ///
    /// # Errors
    /// If the model cannot run on the prompts.
    pub fn lesson(
        &self,
        student: &Transformer,
        data: &Mixture,
        rows: &Batch,
        rows_at_once: usize,
        step: u64,
    ) -> Result<Option<Lesson<'_>>, TrainError> {
        if !self.section.is_due(step) {
            return Ok(None);
        }
        let started = Instant::now();
        let OnPolicySection { prompt_tokens, max_new_tokens, temperature, top_k, top_p, .. } = self.section;
        let student = student.on_grid()?.without_autodiff().with_precision(Precision::Fp32);
        let sampling = Sampling { temperature, top_k, top_p, seed: self.seed }.stream(step);
        let generation = Generation { max_new_tokens, stop: self.stop.clone(), sampling };
        let prompts = data.prompts(rows, prompt_tokens, max_new_tokens);
        if prompts.is_empty() {
            return Ok(None);
        }
        let tokens: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
        let said = generate_in_batches(&student, &tokens, &generation, rows_at_once, |_| ControlFlow::Continue(()))?;
        let rollout = |(prompt, continuation): (_, _)| Rollout { prompt, continuation };
        let rollouts: Vec<Rollout> = prompts.into_iter().zip(said.unwrap_or_default()).map(rollout).collect();
        let batch = data.rollouts(&rollouts);
        let sampled = Sampled { tokens: batch.target_tokens() as u64, elapsed: started.elapsed() };
        Ok(Some(Lesson { objective: &self.objective, batch, sampled: Some(sampled) }))
    }
}
