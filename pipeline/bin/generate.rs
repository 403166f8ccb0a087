//! Command `generate`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::{failure, generate};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Prints what a model says.
#[derive(Parser)]
#[command(name = "generate", version)]
struct Command {
    #[command(flatten)]
    args: generate::GenerateArgs,
}

fn main() -> ExitCode {
    failure::exit_code(generate::run(&Command::parse().args), None)
}
