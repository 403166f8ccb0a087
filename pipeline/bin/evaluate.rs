//! Command `evaluate`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::{command, evaluate};

/// Prints a model's loss, bits per byte and exact answers on held-out data.
#[derive(Parser)]
#[command(name = "evaluate", version)]
struct Command {
    #[command(flatten)]
    args: evaluate::EvaluateArgs,
}

fn main() -> ExitCode {
    command::main(|| evaluate::run(&Command::parse().args), None)
}
