//! Command `distill`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::{failure, distill};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Trains a student on a teacher's distribution of the next token.
#[derive(Parser)]
#[command(name = "distill", version)]
struct Command {
    #[command(flatten)]
    args: distill::DistillArgs,
}

fn main() -> ExitCode {
    failure::exit_code(distill::run(&Command::parse().args), Some("--resume"))
}
