//! Arguments that several commands share.

use std::path::PathBuf;

use clap::Args;
use limbeck_train::Display;

use crate::device::DeviceChoice;

/// Arguments of a stage that reads a config.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// The stage's TOML file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Replaces a key of the file, such as `train.max_steps=20`; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Arguments of a stage that trains.
#[derive(Args, Clone, Debug)]
pub struct TrainingArgs {
    /// Which config.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Run directory; default: `checkpoints/<run.name>/<the stage's directory>`.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Goes on from the newest valid checkpoint of the run directory, or from the step directory given; starts when
    /// there is none.
    #[arg(long, value_name = "CHECKPOINT", num_args = 0..=1)]
    pub resume: Option<Option<PathBuf>>,
    /// Checks everything, prints the resolved config and what the run will take, and ends without training.
    #[arg(long)]
    pub check: bool,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t)]
    pub device: DeviceChoice,
    /// Shows burn-train's terminal dashboard instead of a bar.
    #[arg(long)]
    pub dashboard: bool,
}

impl TrainingArgs {
    /// How progress is shown.
    pub fn display(&self) -> Display {
        if self.dashboard { Display::Dashboard } else { Display::Auto }
    }
}
