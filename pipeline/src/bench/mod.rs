//! `bench`: how fast training steps are, and where their time goes.
//!
//! The steps are those of `pretrain`, on rows that are made up. One process measures one model, so that its peak memory is
//! the model's; for several models the command starts itself once for each.

mod batches;
mod distillation;
mod measure;
mod memory;
mod report;
mod shape;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow};
use burn::tensor::Device;
use clap::{Args, ValueEnum};
use limbeck_config::{Precision, Recompute};
use limbeck_kernels::{has_fused_operators, measured_peak};
use limbeck_model::{Transformer, parameters, save_tensors};
use limbeck_train::say;
use serde::Serialize;

use crate::device::{self, DeviceChoice};
use crate::failure::{Completion, Failure};
use crate::fit::this_machine;
use crate::output;

pub use batches::batch;
pub use distillation::DistillationReport;
pub use report::{Report, Share, Spread};
pub use shape::{BenchModel, Shape};

/// From what the initial weights are drawn.
pub(crate) const SEED: u64 = 1;

/// Arguments of `bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// What is trained; may be given several times.
    #[arg(long = "model", value_enum, value_name = "MODEL", default_values_t = [BenchModel::Million3, BenchModel::Million28])]
    pub models: Vec<BenchModel>,
    /// Arithmetic of the step; default: what the device multiplies faster, as in the stages.
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionChoice>,
    /// Where to compute. On the CPU, RAYON_NUM_THREADS sets the number of threads.
    #[arg(long, value_enum, default_value_t)]
    pub device: DeviceChoice,
    /// Steps that are measured, after a few that are not; default: as many as take some seconds.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: Option<u32>,
    /// Measures distillation instead: a step towards a running teacher of four times the size, beside the step by
    /// cross-entropy and the teacher's forward pass that it is made of.
    #[arg(long, conflicts_with = "dump_weights")]
    pub distill: bool,
    /// Steps that compute blocks again in the backward pass, as with train.recompute = "block".
    #[arg(long, conflicts_with = "distill")]
    pub recompute: bool,
    /// Prints one JSON object a model to stdout, and the table to stderr.
    #[arg(long)]
    pub json: bool,
    /// Measures how fast all threads together read a gigabyte of memory, instead of a model, and prints it in GB/s: what
    /// generation on this machine waits for.
    #[arg(long, conflicts_with_all = ["models", "dump_weights", "steps", "json", "recompute"])]
    pub memory: bool,
    /// Writes the initial weights to a safetensors file, for another program to start from. Takes one model.
    #[arg(long, value_name = "FILE")]
    pub dump_weights: Option<PathBuf>,
}

/// What `--precision` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionChoice {
    /// 32-bit floats everywhere.
    Fp32,
    /// 16-bit inputs of the matrix products.
    Bf16,
    /// The same with IEEE 754's floats, on a GPU.
    Fp16,
}

/// Measures each model and prints what was found.
///
/// # Errors
/// Status 2 for a device or precision that the build lacks; status 1 if the loss stops being finite.
pub fn run(args: &BenchArgs) -> Result<Completion, Failure> {
    if args.memory {
        let device = this_machine();
        output::line(format!("{:.1}", device.sustained_gb_per_s))?;
        return Ok(Completion::Complete { path: None });
    }
    match args.models[..] {
        [model] => run_here(model, args)?,
        _ if args.dump_weights.is_some() => {
            return Err(Failure::usage(anyhow!("--dump-weights takes one model; hint: give `--model 3m`")));
        }
        _ => args.models.iter().try_for_each(|model| run_elsewhere(*model, args))?,
    }
    Ok(Completion::Complete { path: None })
}

/// What a training of the smallest model reaches on this machine, in useful operations a second: see [`Shape::step_flops`]. Takes
/// a second or two.
///
/// # Errors
/// As [`run`].
pub fn measured_flops(device: DeviceChoice) -> Result<f64, Failure> {
    const STEPS: usize = 3;
    let device = device::open(device)?;
    let products = device::of_products(device::precision("--precision", None, &device)?);
    let shape = BenchModel::Million3.shape();
    let model = Transformer::new(&shape.config, SEED, &device.autodiff()).with_precision(products);
    let seconds = measure::measure(model, &shape, STEPS, Recompute::None)?.seconds;
    Ok(shape.step_flops() as f64 / seconds.into_iter().fold(f64::INFINITY, f64::min))
}

fn precision(choice: Option<PrecisionChoice>, device: &Device) -> Result<Precision, Failure> {
    let named = choice.map(|choice| match choice {
        PrecisionChoice::Fp32 => Precision::Fp32,
        PrecisionChoice::Bf16 => Precision::Bf16,
        PrecisionChoice::Fp16 => Precision::Fp16,
    });
    device::precision("--precision", named, device)
}

fn run_here(model: BenchModel, args: &BenchArgs) -> Result<(), Failure> {
    let device = device::open(args.device)?;
    let precision = precision(args.precision, &device)?;
    let steps = args.steps.map_or(model.default_steps(), |steps| steps as usize);
    if args.distill {
        return print(&distillation::measure(model, precision, steps, &device)?, args.json);
    }
    let products = device::of_products(precision);
    let shape = model.shape();
    let transformer = Transformer::new(&shape.config, SEED, &device.clone().autodiff()).with_precision(products);
    if let Some(path) = &args.dump_weights {
        save_tensors(path, &parameters(&transformer)).map_err(Failure::usage)?;
    }
    let recompute = if args.recompute { Recompute::Block } else { Recompute::None };
    let measurement = measure::measure(transformer, &shape, steps, recompute)?;
    // Last, so that the processor is as warm as it was in the steps.
    let peak = has_fused_operators(&device).then(|| measured_peak(products));
    print(&Report::new(model, precision, recompute, device::describe(&device), &measurement, peak), args.json)
}

fn print(report: &(impl Serialize + Display), json: bool) -> Result<(), Failure> {
    if json {
        say!("{}", report.to_string().trim_end());
        output::line(serde_json::to_string(report).map_err(Failure::run)?)
    } else {
        output::line(report)
    }
}

/// In a process of its own, which writes to this one's stdout and stderr.
fn run_elsewhere(model: BenchModel, args: &BenchArgs) -> Result<(), Failure> {
    let program = std::env::current_exe().context("cannot find this program's file").map_err(Failure::run)?;
    let status = command(&program, model, args).status();
    let status = status.with_context(|| format!("cannot start `{}`", program.display())).map_err(Failure::run)?;
    match status.code() {
        Some(0) => Ok(()),
        Some(2) => Err(Failure::usage(anyhow!("`{}` was not measured", model.name()))),
        _ => Err(Failure::run(anyhow!("`{}` was not measured: {status}", model.name()))),
    }
}

fn command(program: &Path, model: BenchModel, args: &BenchArgs) -> Command {
    // No `..`: a new option must be handed on here or nowhere.
    let BenchArgs { models: _, precision, device, steps, distill, recompute, json, memory: _, dump_weights: _ } = args;
    let mut command = Command::new(program);
    command.args(["--model", model.name(), "--device", &word(*device)]);
    command.args(precision.map(|precision| format!("--precision={}", word(precision))));
    command.args(steps.map(|steps| format!("--steps={steps}")));
    command.args(distill.then_some("--distill"));
    command.args(recompute.then_some("--recompute"));
    command.args(json.then_some("--json"));
    command
}

/// As the command line takes it.
fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_its_own_gets_every_option() {
        let args = BenchArgs {
            models: vec![BenchModel::Million3, BenchModel::Million28],
            precision: Some(PrecisionChoice::Bf16),
            device: DeviceChoice::Cpu,
            steps: Some(7),
            distill: true,
            recompute: true,
            json: true,
            memory: false,
            dump_weights: None,
        };
        let line = format!("{:?}", command(Path::new("bench"), BenchModel::Million28, &args));
        assert_eq!(
            line,
            r#""bench" "--model" "28m" "--device" "cpu" "--precision=bf16" "--steps=7" "--distill" "--recompute" "--json""#
        );
    }
}
