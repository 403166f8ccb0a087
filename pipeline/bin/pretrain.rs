//! Command `pretrain`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::cli::TrainingArgs;
use limbeck::{command, pretrain};

/// Trains a decoder on documents: next-token prediction.
#[derive(Parser)]
#[command(name = "pretrain", version)]
struct Command {
    #[command(flatten)]
    args: TrainingArgs,
}

fn main() -> ExitCode {
    command::main(|| pretrain::run(&Command::parse().args), Some("--resume"))
}
