//! Command `prepare`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::{failure, prepare};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Writes the embedded corpus, where the config asks for it, and trains a tokenizer.
#[derive(Parser)]
#[command(name = "prepare", version)]
struct Command {
    #[command(flatten)]
    args: prepare::PrepareArgs,
}

fn main() -> ExitCode {
    failure::exit_code(prepare::run(&Command::parse().args), None)
}
