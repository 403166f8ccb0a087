//! What every binary's `main` does around its stage.

use std::process::ExitCode;

use crate::allocator;
use crate::failure::{Completion, Failure};

/// Runs a command. Its path goes to stdout or its error to stderr; the result is the exit status. `resume` is the option
/// that makes the same command go on after an interruption, if it needs one.
pub fn main(run: impl FnOnce() -> Result<Completion, Failure>, resume: Option<&str>) -> ExitCode {
    allocator::keep_freed_pages();
    match run() {
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
