//! stdout: what a command was run for, and nothing else.

use std::fmt::Display;
use std::io::Write;

use anyhow::anyhow;

use crate::failure::Failure;

/// Writes a line to stdout. Unlike with `println!`, a reader that has gone away is no panic.
///
/// # Errors
/// If stdout cannot be written to.
pub fn line(text: impl Display) -> Result<(), Failure> {
    writeln!(std::io::stdout().lock(), "{text}").map_err(gone)
}

/// Writes to stdout what a reader sees at once.
///
/// # Errors
/// If stdout cannot be written to.
pub fn piece(text: impl Display) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(gone)
}

fn gone(error: std::io::Error) -> Failure {
    Failure::run(anyhow!("cannot write to stdout: {error}; hint: keep its reader open"))
}
