//! Why a command ends early, and with which exit status.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// An error and the exit status that goes with it.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    error: anyhow::Error,
}

impl Failure {
    /// Bad usage or config: what is found wrong before the first step. Exit status 2.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { status: 2, error: error.into() }
    }

    /// The run failed. Exit status 1.
    pub fn run(error: impl Into<anyhow::Error>) -> Self {
        Self { status: 1, error: error.into() }
    }

    /// The exit status.
    pub fn status(&self) -> u8 {
        self.status
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            // Most messages have their cause in them.
            if !text.contains(&cause) {
                text += if text.is_empty() { "" } else { ": " };
                text += &cause;
            }
        }
        if !text.contains("hint: ") && self.error.chain().any(is_full) {
            text += "; hint: free space, or write to another device";
        }
        formatter.write_str(&text)
    }
}

fn is_full(cause: &(dyn Error + 'static)) -> bool {
    let error = cause.downcast_ref::<io::Error>();
    error.is_some_and(|error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

/// How a command that did not fail ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Everything is done.
    Complete {
        /// What the next command takes: printed to stdout.
        path: Option<PathBuf>,
    },
    /// A signal ended what goes on until one does, and leaves nothing to go on from.
    Stopped {
        /// Its number.
        signal: i32,
    },
    /// A signal asked for a stop; what was under way is saved.
    Interrupted {
        /// Its number.
        signal: i32,
    },
}
