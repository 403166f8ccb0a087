//! Command `prepare`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::{command, prepare};

/// Writes the embedded corpus, where the config asks for it, and trains a tokenizer.
#[derive(Parser)]
#[command(name = "prepare", version)]
struct Command {
    #[command(flatten)]
    args: prepare::PrepareArgs,
}

fn main() -> ExitCode {
    command::main(|| prepare::run(&Command::parse().args), None)
}
