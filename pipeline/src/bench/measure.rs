//! The steps that are timed.

use std::time::Instant;

use limbeck_config::{OptimizerSection, Recompute};
use limbeck_kernels::{Profile, take_profile};
use limbeck_model::Transformer;
use limbeck_train::{AdamW, NextToken, Trainer};

use crate::bench::batches::batch;
use crate::bench::shape::Shape;
use crate::failure::Failure;

/// Steps before the measured ones: the first allocate the buffers that the others use again.
pub(crate) const WARMUP_STEPS: usize = 3;

/// At which the loss falls from the first step on.
pub(crate) const LEARNING_RATE: f64 = 3e-4;

/// What the steps gave.
#[derive(Clone, Debug)]
pub(crate) struct Measurement {
    /// Of every step, those before the measured ones too.
    pub(crate) losses_nats: Vec<f32>,
    /// Of each measured step.
    pub(crate) seconds: Vec<f64>,
    /// Of the measured steps together.
    pub(crate) profile: Profile,
}

/// Trains for [`WARMUP_STEPS`] and then for `steps`, with the [`Trainer`] of every stage. Making the rows is not timed.
///
/// # Errors
/// If the loss is not finite.
pub(crate) fn measure(
    model: Transformer,
    shape: &Shape,
    steps: usize,
    recompute: Recompute,
) -> Result<Measurement, Failure> {
    let optimizer = AdamW::new(&OptimizerSection::new(LEARNING_RATE)).map_err(Failure::usage)?;
    let mut trainer = Trainer { recompute, ..Trainer::new(model, optimizer) };
    let mut found = Measurement { losses_nats: Vec::new(), seconds: Vec::new(), profile: Profile::default() };
    for step in 1..=WARMUP_STEPS + steps {
        let batch = [batch(shape, step as u64)];
        take_profile();
        let started = Instant::now();
        let report;
        (trainer, report) = trainer.step(&NextToken, &batch, step as u64, 1.0).map_err(Failure::run)?;
        let seconds = started.elapsed().as_secs_f64();
        found.losses_nats.push(report.loss_nats);
        if step > WARMUP_STEPS {
            found.seconds.push(seconds);
            found.profile = found.profile.plus(&take_profile());
        }
    }
    Ok(found)
}
