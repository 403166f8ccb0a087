//! Command `bench`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::{bench, command};

/// Measures training steps: tokens/s, share of the machine's peak, memory, and where the time goes.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Command {
    #[command(flatten)]
    args: bench::BenchArgs,
}

fn main() -> ExitCode {
    command::main(|| bench::run(&Command::parse().args), None)
}
