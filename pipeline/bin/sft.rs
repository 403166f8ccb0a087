//! Command `sft`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::cli::TrainingArgs;
use limbeck::{failure, sft};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Fine-tunes a checkpoint on chats: next-token prediction of the assistant's turns.
#[derive(Parser)]
#[command(name = "sft", version)]
struct Command {
    #[command(flatten)]
    args: TrainingArgs,
}

fn main() -> ExitCode {
    failure::exit_code(sft::run(&Command::parse().args), Some("--resume"))
}
