//! How a command ended, and what it said.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use anyhow::{Context, ensure};

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its exit status, or 128 and the number of the signal that ended it.
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Runs `command` to its end.
    pub(crate) fn of(command: &mut Command) -> anyhow::Result<Self> {
        Self::from_output(command.output().with_context(|| format!("{command:?}"))?)
    }

    /// What [`Command::output`] gives.
    pub(crate) fn from_output(output: Output) -> anyhow::Result<Self> {
        let status = output.status.code().or(output.status.signal().map(|signal| 128 + signal));
        Ok(Self {
            status: status.context("a command that has ended has a status")?,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// Exit status 0; gives stdout without its last line break.
    pub(crate) fn complete(self) -> anyhow::Result<String> {
        ensure!(self.status == 0, "{self:?}");
        Ok(self.stdout.trim_end().to_owned())
    }

    /// `status`, nothing on stdout, and `fragments` in the message on stderr.
    pub(crate) fn refused(&self, status: i32, fragments: &[&str]) -> anyhow::Result<()> {
        ensure!(self.status == status, "expected status {status}: {self:?}");
        ensure!(self.stdout.is_empty(), "nothing is complete: {self:?}");
        self.says(&["error: "])?;
        self.says(fragments)
    }

    /// `fragments` on stderr.
    pub(crate) fn says(&self, fragments: &[&str]) -> anyhow::Result<()> {
        for fragment in fragments {
            ensure!(self.stderr.contains(fragment), "`{fragment}` is not in:\n{}", self.stderr);
        }
        Ok(())
    }
}
