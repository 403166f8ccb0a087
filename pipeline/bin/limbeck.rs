//! Command `limbeck`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::{failure, chain};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the whole chain: prepare, pretrain, sft, distill, export-model, and a report.
#[derive(Parser)]
#[command(name = "limbeck", version)]
struct Command {
    #[command(flatten)]
    args: chain::ChainArgs,
}

fn main() -> ExitCode {
    failure::exit_code(chain::run(&Command::parse().args), None)
}
