//! Command `sft`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::cli::TrainingArgs;
use limbeck::{command, sft};

/// Fine-tunes a checkpoint on chats: next-token prediction of the assistant's turns.
#[derive(Parser)]
#[command(name = "sft", version)]
struct Command {
    #[command(flatten)]
    args: TrainingArgs,
}

fn main() -> ExitCode {
    command::main(|| sft::run(&Command::parse().args), Some("--resume"))
}
