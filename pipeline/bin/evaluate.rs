//! Command `evaluate`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::{failure, evaluate};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Prints a model's loss, bits per byte and exact answers on held-out data.
#[derive(Parser)]
#[command(name = "evaluate", version)]
struct Command {
    #[command(flatten)]
    args: evaluate::EvaluateArgs,
}

fn main() -> ExitCode {
    failure::exit_code(evaluate::run(&Command::parse().args), None)
}
