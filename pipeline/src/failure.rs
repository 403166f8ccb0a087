//! Why a command ends early, and with which exit status.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

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
        write!(formatter, "{:#}", self.error)
    }
}

/// How a command that did not fail ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Everything is done.
    Complete {
        /// What the next command takes: printed to stdout.
        path: Option<PathBuf>,
    },
    /// A signal asked for a stop; what was under way is saved.
    Interrupted {
        /// Its number.
        signal: i32,
    },
}

/// The exit status of a command, after its path went to stdout or its error to stderr. `resume` is the option that makes
/// the same command go on after an interruption, if it needs one.
pub fn exit_code(result: Result<Completion, Failure>, resume: Option<&str>) -> ExitCode {
    match result {
        Ok(Completion::Complete { path }) => {
            if let Some(path) = path {
                println!("{}", path.display());
            }
            ExitCode::SUCCESS
        }
        Ok(Completion::Interrupted { signal }) => {
            eprintln!("stopped and saved; go on with: {}", command_line(resume));
            ExitCode::from(128u8.wrapping_add(signal as u8))
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

/// This process's command line, quoted for a shell, with `option` at its end if it is not there.
fn command_line(option: Option<&str>) -> String {
    let quote = |argument: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:".contains(c);
        if argument.chars().all(plain) && !argument.is_empty() {
            argument
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    let mut words: Vec<String> = std::env::args().map(quote).collect();
    if let Some(option) = option
        && !words.iter().any(|word| word == option)
    {
        words.push(option.to_owned());
    }
    words.join(" ")
}
