//! Command `pretrain`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::cli::TrainingArgs;
use limbeck::{failure, pretrain};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Trains a decoder on documents: next-token prediction.
#[derive(Parser)]
#[command(name = "pretrain", version)]
struct Command {
    #[command(flatten)]
    args: TrainingArgs,
}

fn main() -> ExitCode {
    failure::exit_code(pretrain::run(&Command::parse().args), Some("--resume"))
}
