//! The step: forward and backward over micro-batches, clip, update.

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use limbeck_data::Batch;
use limbeck_model::Transformer;

use crate::error::TrainError;
use crate::objective::Objective;
use crate::optimizer::{AdamW, gradient_norm};

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Mean over the step's target tokens, before the update.
    pub loss_nats: f32,
    /// Global norm of the gradient, before clipping.
    pub grad_norm: f32,
}

/// A model and its optimizer.
#[derive(Debug)]
pub struct Trainer {
    /// What is trained, on a device with autodiff.
    pub model: Transformer,
    /// Its optimizer.
    pub optimizer: AdamW,
}

impl Trainer {
    /// One optimizer step over `micro_batches`, the `step`-th, counted from 1.
    ///
    /// Losses are sums divided by the target tokens of the whole step, so the split into micro-batches does not change
    /// the update. The device is waited for once.
    ///
    /// # Errors
    /// If there is no target token, or the loss or gradient is not finite; the model is dropped then, unchanged on disk.
    pub fn step(
        mut self,
        objective: &dyn Objective,
        micro_batches: &[Batch],
        step: u64,
        learning_rate_factor: f64,
    ) -> Result<(Self, StepReport), TrainError> {
        let (gradients, loss_sum, target_tokens) = self.gradients(objective, micro_batches)?;
        let norm = gradient_norm(&self.model, &gradients).ok_or(TrainError::NoTargets { step })?;
        let loss_sum = loss_sum.ok_or(TrainError::NoTargets { step })?;
        let numbers: Vec<f32> = Tensor::cat(vec![loss_sum, norm], 0)
            .into_data()
            .convert::<f32>()
            .try_into_vec()
            .expect("converted to 32-bit floats");
        let report = StepReport { loss_nats: numbers[0] / target_tokens as f32, grad_norm: numbers[1] };
        if !report.loss_nats.is_finite() || !report.grad_norm.is_finite() {
            return Err(TrainError::NonFinite { step, loss_nats: report.loss_nats, grad_norm: report.grad_norm });
        }
        self.model = self.optimizer.step(self.model, gradients, report.grad_norm, learning_rate_factor);
        Ok((self, report))
    }

    /// Gradients of the mean loss over all micro-batches, the sum of the losses, and the target tokens. With fake quantisation
    /// they are taken where the weights on the grid are, and are gradients for the masters.
    ///
    /// # Errors
    /// Those of the objective, and a weight that the grid cannot hold.
    pub fn gradients(
        &self,
        objective: &dyn Objective,
        micro_batches: &[Batch],
    ) -> Result<(GradientsParams, Option<Tensor<1>>, usize), TrainError> {
        let model = self.model.on_grid()?;
        let target_tokens: usize = micro_batches.iter().map(Batch::target_tokens).sum();
        let mut accumulator = GradientsAccumulator::new();
        let mut loss_sum: Option<Tensor<1>> = None;
        for batch in micro_batches.iter().filter(|batch| batch.target_tokens() > 0) {
            let loss = objective.loss(&model, batch)?;
            loss_sum = Some(loss_sum.map_or(loss.loss_sum.clone(), |sum| sum + loss.loss_sum));
            let mean = loss.surrogate / target_tokens as f32;
            accumulator.accumulate(&model, GradientsParams::from_grads(mean.backward(), &model));
        }
        Ok((accumulator.grads(), loss_sum, target_tokens))
    }
}
