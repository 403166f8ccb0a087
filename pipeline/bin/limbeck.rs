//! Command `limbeck`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::{chain, command};

/// Runs the whole chain: prepare, pretrain, sft, distill, export-model, and a report.
#[derive(Parser)]
#[command(name = "limbeck", version)]
struct Command {
    #[command(flatten)]
    args: chain::ChainArgs,
}

fn main() -> ExitCode {
    command::main(|| chain::run(&Command::parse().args), None)
}
