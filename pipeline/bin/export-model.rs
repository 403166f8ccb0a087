//! Command `export-model`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::{command, export_model};

/// Writes a checkpoint in the formats that other programs load, and checks each.
#[derive(Parser)]
#[command(name = "export-model", version)]
struct Command {
    #[command(flatten)]
    args: export_model::ExportArgs,
}

fn main() -> ExitCode {
    command::main(|| export_model::run(&Command::parse().args), None)
}
