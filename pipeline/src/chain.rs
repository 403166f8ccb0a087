//! The whole chain: `prepare → pretrain → sft → distill (and its control) → export-model`, then the report.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use limbeck_config::{TrainingConfig, TrainingStage, load_training};
use limbeck_train::say;

use crate::cli::{ConfigArgs, TrainingArgs};
use crate::control::Control;
use crate::device::DeviceChoice;
use crate::distill::DistillArgs;
use crate::export_model::ExportArgs;
use crate::failure::{Completion, Failure};
use crate::interrupt::Interrupt;
use crate::prepare::PrepareArgs;
use crate::training::run_directory;
use crate::{distill, export_model, prepare, pretrain, report, sft};

/// Arguments of `limbeck`.
#[derive(Args, Clone, Debug)]
pub struct ChainArgs {
    /// Directory of the five configs.
    #[arg(long, value_name = "DIR", default_value = "configs/tiny")]
    pub configs: PathBuf,
    /// Trains the student and its cross-entropy twin with this many seeds, each pair from the same random weights.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub seeds: u64,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t)]
    pub device: DeviceChoice,
    /// Shows burn-train's terminal dashboard instead of bars.
    #[arg(long)]
    pub dashboard: bool,
}

/// A student and its twin, both from the same seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The seed.
    pub seed: u64,
    /// Run directory of the distilled student.
    pub student: PathBuf,
    /// Run directory of the student trained by cross-entropy alone.
    pub control: PathBuf,
}

/// A stage of the chain with its arguments.
type StageRun<'a> = Box<dyn Fn() -> Result<Completion, Failure> + 'a>;

/// Runs what is not complete yet, and prints the report to stdout.
///
/// # Errors
/// Those of the stages.
pub fn run(args: &ChainArgs) -> Result<Completion, Failure> {
    let interrupt = Interrupt::listen()?;
    require_configs(args)?;
    let config = load_training(TrainingStage::Distill, &args.config("distill"), &[]).map_err(Failure::usage)?;
    let pairs = pairs(&config, args.seeds);
    let mut stages: Vec<(String, StageRun)> = vec![
        (
            "prepare".to_owned(),
            Box::new(|| prepare::run(&PrepareArgs { config: args.config_args("prepare"), check: false })),
        ),
        ("pretrain".to_owned(), Box::new(|| pretrain::run(&args.training_args("pretrain", None)))),
        ("sft".to_owned(), Box::new(|| sft::run(&args.training_args("sft", None)))),
    ];
    for pair in &pairs {
        for (control, out) in [(None, &pair.student), (Some(Control::Tokens), &pair.control)] {
            let name = format!("distill{} (seed {})", if control.is_some() { " --control" } else { "" }, pair.seed);
            let mut training = args.training_args("distill", Some(out));
            training.config.set.push(format!("run.seed={}", pair.seed));
            stages.push((name, Box::new(move || distill::run(&DistillArgs::training(training.clone(), control)))));
        }
    }
    stages.push(("export-model".to_owned(), Box::new(|| export_model::run(&args.export_args()))));
    let count = stages.len();
    for (i, (name, stage)) in stages.iter().enumerate() {
        if let Some(signal) = interrupt.signal() {
            return Ok(Completion::Interrupted { signal });
        }
        say!("[{}/{count}] {name}", i + 1);
        if let interrupted @ Completion::Interrupted { .. } = stage()? {
            return Ok(interrupted);
        }
    }
    report::print(args, &config, &pairs)?;
    Ok(Completion::Complete { path: None })
}

impl ChainArgs {
    /// The config of a stage.
    pub fn config(&self, stage: &str) -> PathBuf {
        self.configs.join(stage).with_extension("toml")
    }

    fn config_args(&self, stage: &str) -> ConfigArgs {
        ConfigArgs { config: self.config(stage), set: Vec::new() }
    }

    fn training_args(&self, stage: &str, out: Option<&Path>) -> TrainingArgs {
        TrainingArgs {
            config: self.config_args(stage),
            out: out.map(Path::to_owned),
            resume: Some(None),
            check: false,
            device: self.device,
            dashboard: self.dashboard,
        }
    }

    fn export_args(&self) -> ExportArgs {
        ExportArgs {
            config: self.config_args("export-model"),
            out: None,
            check: false,
            budget: None,
            this_machine: false,
            device: self.device,
        }
    }
}

/// The first pair has the stages' own directories and the config's seed.
fn pairs(config: &TrainingConfig, seeds: u64) -> Vec<Pair> {
    let directory = |name: &str, i: u64| {
        let name = if i == 0 { name.to_owned() } else { format!("{name}-seed-{i}") };
        run_directory(&config.run.name, &name)
    };
    let pair = |i| {
        let student = directory("student", i);
        Pair { seed: config.seed().wrapping_add(i), control: Control::Tokens.directory(&student), student }
    };
    (0..seeds).map(pair).collect()
}

/// Refuses a directory without configs, before anything runs.
///
/// # Errors
/// If a stage's config is not there.
fn require_configs(args: &ChainArgs) -> Result<(), Failure> {
    for stage in ["prepare", "pretrain", "sft", "distill", "export-model"] {
        let path = args.config(stage);
        if !path.is_file() {
            return Err(Failure::usage(anyhow!(
                "`{}` is not there; hint: run in the project's root, or give --configs",
                path.display()
            )));
        }
    }
    Ok(())
}
