//! What a step of distillation costs, beside what it is made of.

use std::fmt;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use limbeck_config::{ModelConfig, OptimizerSection, Precision};
use limbeck_data::Batch;
use limbeck_kernels::{Precision as Products, loss_head_value};
use limbeck_loss::{DivergenceLoss, MixedLoss};
use limbeck_model::Transformer;
use limbeck_train::{AdamW, Distillation, NextToken, Objective, Teacher, Trainer};
use serde::Serialize;

use crate::bench::SEED;
use crate::bench::batches::batch;
use crate::bench::measure::{LEARNING_RATE, WARMUP_STEPS};
use crate::bench::report::Spread;
use crate::bench::shape::{BenchModel, Shape};
use crate::device;
use crate::failure::Failure;

/// A measured distillation. Its fields are the keys of the object that `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DistillationReport {
    /// The student, as `--model` takes it.
    pub model: &'static str,
    /// Numbers of the student.
    pub parameters: usize,
    /// Numbers of the teacher, whose shape is [`Shape::teacher`].
    pub teacher_parameters: usize,
    /// Arithmetic of both, as `train.precision` takes it.
    pub precision: Precision,
    /// Where it was computed.
    pub device: String,
    /// Measured steps of each kind.
    pub steps: usize,
    /// Seconds of the student's step by cross-entropy.
    pub cross_entropy_s: Spread,
    /// Seconds of the teacher's forward pass over the same rows, its logits included.
    pub teacher_s: Spread,
    /// Seconds of a step towards the running teacher: forward KL, without cross-entropy.
    pub distillation_s: Spread,
    /// `distillation_s` over `cross_entropy_s` and `teacher_s` together, of the medians.
    pub ratio: f64,
}

/// A student that is trained again and again, with its own objective.
struct Arm {
    trainer: Option<Trainer>,
    objective: Box<dyn Objective>,
    seconds: Vec<f64>,
}

impl Arm {
    fn new(student: &Transformer, objective: Box<dyn Objective>) -> Result<Self, Failure> {
        let optimizer = AdamW::new(&OptimizerSection::new(LEARNING_RATE)).map_err(Failure::usage)?;
        let trainer = Trainer { model: student.clone(), optimizer };
        Ok(Self { trainer: Some(trainer), objective, seconds: Vec::new() })
    }

    fn step(&mut self, batch: &Batch, step: u64) -> Result<(), Failure> {
        let Some(trainer) = self.trainer.take() else { return Ok(()) };
        let started = Instant::now();
        let (trainer, _) =
            trainer.step(&*self.objective, std::slice::from_ref(batch), step, 1.0).map_err(Failure::run)?;
        self.seconds.push(started.elapsed().as_secs_f64());
        self.trainer = Some(trainer);
        Ok(())
    }
}

/// Measures the three in turn, step by step, so that whatever else the machine does disturbs them alike.
///
/// # Errors
/// If a loss is not finite.
pub(crate) fn measure(
    model: BenchModel,
    precision: Precision,
    steps: usize,
    device: &Device,
) -> Result<DistillationReport, Failure> {
    let (shape, products) = (model.shape(), device::of_products(precision));
    let student = Transformer::new(&shape.config, SEED, &device.clone().autodiff()).with_precision(products);
    let teacher = Transformer::new(&shape.teacher(), SEED + 1, device).with_precision(products);
    let loss = MixedLoss { divergence: DivergenceLoss::forward_kl(), ce_weight: 0.0 };
    let distillation = Distillation { teacher: Teacher::Online(Box::new(teacher.clone())), loss };
    let mut plain = Arm::new(&student, Box::new(NextToken))?;
    let mut taught = Arm::new(&student, Box::new(distillation))?;
    let mut teacher_seconds = Vec::new();
    for step in 1..=(WARMUP_STEPS + steps) as u64 {
        let batch = batch(&shape, step);
        plain.step(&batch, step)?;
        teacher_seconds.push(forward(&teacher, &batch, products));
        taught.step(&batch, step)?;
    }
    let spread = |seconds: &[f64]| Spread::of(&seconds[WARMUP_STEPS..]);
    let (cross_entropy_s, teacher_s, distillation_s) =
        (spread(&plain.seconds), spread(&teacher_seconds), spread(&taught.seconds));
    Ok(DistillationReport {
        model: model.name(),
        parameters: shape.config.parameter_count(),
        teacher_parameters: shape.teacher().parameter_count(),
        precision,
        device: device::describe(device),
        steps,
        cross_entropy_s,
        teacher_s,
        distillation_s,
        ratio: distillation_s.median / (cross_entropy_s.median + teacher_s.median),
    })
}

/// Seconds of a forward pass with its logits, in the loss head's chunks.
fn forward(teacher: &Transformer, batch: &Batch, precision: Products) -> f64 {
    let started = Instant::now();
    let hidden = teacher.hidden(&batch.inputs, &batch.positions, batch.sequence_length);
    let read = loss_head_value(hidden, teacher.output_weight(), precision, |logits, _| {
        // One number of each chunk: on a device that computes later, reading it waits for all of them.
        logits.slice([0..1, 0..1]).reshape([1])
    });
    read.map(Tensor::into_data);
    started.elapsed().as_secs_f64()
}

impl Shape {
    /// Four times the parameters, give or take an eighth: twice as wide, with one layer more and the same heads' width.
    pub fn teacher(&self) -> ModelConfig {
        let student = self.config.clone();
        ModelConfig {
            hidden_size: 2 * student.hidden_size,
            intermediate_size: 2 * student.intermediate_size,
            num_hidden_layers: student.num_hidden_layers + 1,
            num_attention_heads: 2 * student.num_attention_heads,
            num_key_value_heads: 2 * student.num_key_value_heads,
            ..student
        }
    }
}

impl fmt::Display for DistillationReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = self.precision.name();
        writeln!(
            formatter,
            "{}: {} parameters, a teacher of {}, {precision} on {}, {} steps of each after {WARMUP_STEPS}",
            self.model, self.parameters, self.teacher_parameters, self.device, self.steps
        )?;
        let mut row = |name: &str, Spread { median, min, max }: Spread| {
            let [median, min, max] = [median, min, max].map(|seconds| 1e3 * seconds);
            writeln!(formatter, "  {name:<24}{median:.1} ms ({min:.1} to {max:.1})")
        };
        row("cross-entropy step", self.cross_entropy_s)?;
        row("teacher's forward pass", self.teacher_s)?;
        row("distillation step", self.distillation_s)?;
        writeln!(formatter, "  {:<24}{:.3}", "of the two together", self.ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teachers_are_four_times_their_students() {
        for model in [BenchModel::Million3, BenchModel::Million28] {
            let shape = model.shape();
            assert!(shape.teacher().validate().is_ok());
            let times = shape.teacher().parameter_count() as f64 / shape.config.parameter_count() as f64;
            assert!((3.5..4.5).contains(&times), "{}: {times}", model.name());
        }
    }
}
