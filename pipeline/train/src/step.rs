//! The step: forward and backward over micro-batches, clip, update.

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use limbeck_config::Recompute;
use limbeck_data::Batch;
use limbeck_kernels::Precision;
use limbeck_model::Transformer;

use crate::alignment::HiddenAlignment;
use crate::error::TrainError;
use crate::objective::{Learner, Objective};
use crate::optimizer::{AdamW, GradientScale, gradient_norm};
use crate::recompute::Tape;

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
    /// What is trained beside it, for a loss that needs it.
    pub alignment: Option<AlignmentTrainer>,
    /// What the backward pass computes again.
    pub recompute: Recompute,
}

/// The maps of an alignment and their own optimizer, whose steps are those of the model's.
#[derive(Debug)]
pub struct AlignmentTrainer {
    /// On a device with autodiff.
    pub alignment: HiddenAlignment,
    /// With the settings of the model's.
    pub optimizer: AdamW,
}

/// Gradients of the mean loss over all micro-batches of a step, or of a multiple of it.
pub struct StepGradients {
    /// The multiple: 1, but with 16-bit floats of IEEE 754, where gradients of a mean over thousands of tokens would be zeros,
    /// that of the sum.
    pub multiple: f32,
    /// By the model's parameters.
    pub model: GradientsParams,
    /// By the maps of an alignment; empty without one.
    pub alignment: GradientsParams,
    /// Sum of the losses: `[1]`. `None` without targets.
    pub loss_sum: Option<Tensor<1>>,
    /// What it is divided by.
    pub target_tokens: usize,
}

impl Trainer {
    /// A trainer of a model alone.
    pub fn new(model: Transformer, optimizer: AdamW) -> Self {
        Self { model, optimizer, alignment: None, recompute: Recompute::None }
    }

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
        let gradients = self.gradients(objective, micro_batches)?;
        let norm = self.norm(&gradients).ok_or(TrainError::NoTargets { step })?;
        let loss_sum = gradients.loss_sum.ok_or(TrainError::NoTargets { step })?;
        let numbers: Vec<f32> = Tensor::cat(vec![loss_sum, norm], 0)
            .into_data()
            .convert::<f32>()
            .try_into_vec()
            .expect("converted to 32-bit floats");
        let report = StepReport {
            loss_nats: numbers[0] / gradients.target_tokens as f32,
            grad_norm: numbers[1] / gradients.multiple,
        };
        if !report.loss_nats.is_finite() || !report.grad_norm.is_finite() {
            return Err(TrainError::NonFinite { step, loss_nats: report.loss_nats, grad_norm: report.grad_norm });
        }
        let scale = GradientScale { norm: report.grad_norm, multiple: gradients.multiple };
        self.model = self.optimizer.step(self.model, gradients.model, scale, learning_rate_factor);
        self.alignment = self.alignment.map(|AlignmentTrainer { alignment, mut optimizer }| {
            let alignment = optimizer.step(alignment, gradients.alignment, scale, learning_rate_factor);
            AlignmentTrainer { alignment, optimizer }
        });
        Ok((self, report))
    }

    /// Gradients over all micro-batches. With fake quantisation they are taken where the weights on the grid
    /// are, and are gradients for the masters.
    ///
    /// # Errors
    /// Those of the objective, and a weight that the grid cannot hold.
    pub fn gradients(&self, objective: &dyn Objective, micro_batches: &[Batch]) -> Result<StepGradients, TrainError> {
        let model = self.model.on_grid()?;
        let target_tokens: usize = micro_batches.iter().map(Batch::target_tokens).sum();
        let multiple = if model.precision() == Precision::Fp16 { target_tokens as f32 } else { 1.0 };
        let mut of_model = GradientsAccumulator::new();
        let mut of_alignment = GradientsAccumulator::new();
        let mut loss_sum: Option<Tensor<1>> = None;
        let alignment = self.alignment.as_ref().map(|trainer| &trainer.alignment);
        let tape = (self.recompute == Recompute::Block).then(|| Tape::new(&model));
        let learner = Learner::new(&model, alignment).on_tape(tape.as_ref());
        for batch in micro_batches.iter().filter(|batch| batch.target_tokens() > 0) {
            let loss = objective.loss(learner, batch)?;
            loss_sum = Some(loss_sum.map_or(loss.loss_sum.clone(), |sum| sum + loss.loss_sum));
            let mut gradients = (loss.surrogate / (target_tokens as f32 / multiple)).backward();
            // By itself, so that sums have one order however much of it the tape makes.
            let mut of_batch = GradientsAccumulator::new();
            of_batch.accumulate(&model, GradientsParams::from_module(&mut gradients, &model));
            if let Some(tape) = &tape {
                tape.backward(&gradients, |of_part| {
                    of_batch.accumulate(&model, GradientsParams::from_grads(of_part, &model));
                });
            }
            of_model.accumulate(&model, of_batch.grads());
            if let Some(alignment) = alignment {
                of_alignment.accumulate(alignment, GradientsParams::from_module(&mut gradients, alignment));
            }
        }
        let (model, alignment) = (of_model.grads(), of_alignment.grads());
        Ok(StepGradients { multiple, model, alignment, loss_sum, target_tokens })
    }

    /// Norm of the gradients by everything that is trained together, with their multiple: `[1]`.
    fn norm(&self, gradients: &StepGradients) -> Option<Tensor<1>> {
        let of_model = gradient_norm(&self.model, &gradients.model)?;
        let trainer = self.alignment.as_ref();
        let of_alignment = trainer.and_then(|trainer| gradient_norm(&trainer.alignment, &gradients.alignment));
        Some(match of_alignment {
            Some(norm) => (of_model.square() + norm.square()).sqrt(),
            None => of_model,
        })
    }
}
