//! Command `plan`.

use std::process::ExitCode;

use clap::Parser;
use limbeck::{command, plan};

/// Says which student shapes a device allows, what their training would cost, and which one to take.
#[derive(Parser)]
#[command(name = "plan", version)]
struct Command {
    #[command(flatten)]
    args: plan::PlanArgs,
}

fn main() -> ExitCode {
    command::main(|| plan::run(&Command::parse().args), None)
}
