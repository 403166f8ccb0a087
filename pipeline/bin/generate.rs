//! Command `generate`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::{command, generate};

/// Prints what a model says.
#[derive(Parser)]
#[command(name = "generate", version)]
struct Command {
    #[command(flatten)]
    args: generate::GenerateArgs,
}

fn main() -> ExitCode {
    command::main(|| generate::run(&Command::parse().args), None)
}
