//! Command `distill`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::{command, distill};

/// Trains a student on a teacher's distribution of the next token.
#[derive(Parser)]
#[command(name = "distill", version)]
struct Command {
    #[command(flatten)]
    args: distill::DistillArgs,
}

fn main() -> ExitCode {
    command::main(|| distill::run(&Command::parse().args), Some("--resume"))
}
