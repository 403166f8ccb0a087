//! What every binary's `main` does around its stage.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use anyhow::anyhow;
use limbeck_train::say;

use crate::allocator;
use crate::failure::{Completion, Failure};
use crate::output;

/// Stack of a worker, as large as Linux gives the first thread.
const STACK_BYTES: usize = 8 << 20;

/// Runs a command, on a worker of rayon's pool: from a thread outside, every operator would have to wake the workers and
/// be woken by them, which costs a step of generation half its time. Its path goes to stdout or its error to stderr; the result is the exit status. `resume` is the option
/// that makes the same command go on after an interruption, if it needs one.
pub fn main(run: impl FnOnce() -> Result<Completion, Failure> + Send, resume: Option<&str>) -> ExitCode {
    allocator::keep_freed_pages();
    if let Err(error) = rayon::ThreadPoolBuilder::new().stack_size(STACK_BYTES).build_global() {
        return failed(Failure::run(anyhow!(
            "cannot start the worker threads: {error}; hint: raise the limit of processes"
        )));
    }
    match rayon::scope(|_| run()) {
        Ok(Completion::Complete { path }) => {
            let printed = path.map_or(Ok(()), |path| output::line(path.display()));
            printed.map_or_else(failed, |()| ExitCode::SUCCESS)
        }
        Ok(Completion::Interrupted { signal }) => {
            say!("stopped and saved; go on with: {}", command_line(resume));
            interrupted(signal)
        }
        Ok(Completion::Stopped { signal }) => interrupted(signal),
        Err(failure) => failed(failure),
    }
}

/// As a shell has it.
fn interrupted(signal: i32) -> ExitCode {
    ExitCode::from(128u8.wrapping_add(signal as u8))
}

fn failed(failure: Failure) -> ExitCode {
    say!("error: {failure}");
    ExitCode::from(failure.status())
}

/// This process's command line, quoted for a shell. With `option` it goes on from what was saved last: where the option
/// is there already, a value of it is left out.
fn command_line(option: Option<&str>) -> String {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(option) = option {
        without_option(&mut arguments, option);
        arguments.push(option.into());
    }
    arguments.iter().map(|argument| quoted(argument)).collect::<Vec<_>>().join(" ")
}

/// Takes out `--option`, `--option=value` and `--option value`.
fn without_option(arguments: &mut Vec<OsString>, option: &str) {
    let with_value = format!("{option}=");
    let is_it = |argument: &OsString| {
        argument.to_str().is_some_and(|argument| argument == option || argument.starts_with(&with_value))
    };
    if let Some(place) = arguments.iter().position(is_it) {
        let is_bare = arguments.remove(place) == option;
        if is_bare && arguments.get(place).is_some_and(|next| !next.as_encoded_bytes().starts_with(b"-")) {
            arguments.remove(place);
        }
    }
}

/// As one word of bash.
fn quoted(argument: &OsStr) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:".contains(c);
    match argument.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(plain) => text.to_owned(),
        Some(text) => format!("'{}'", text.replace('\'', r"'\''")),
        None => {
            let bytes: String = argument.as_encoded_bytes().iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("$'{bytes}'")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_resume(line: &str) -> String {
        let mut arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        without_option(&mut arguments, "--resume");
        arguments.iter().map(|argument| quoted(argument)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_option_goes_with_its_value_and_nothing_else() {
        assert_eq!(without_resume("sft --resume --out a"), "sft --out a");
        assert_eq!(without_resume("sft --resume a/step-00000004 --out a"), "sft --out a");
        assert_eq!(without_resume("sft --resume=a/step-00000004 --out a"), "sft --out a");
        assert_eq!(without_resume("sft --out a --resume"), "sft --out a");
        assert_eq!(without_resume("sft --out --resumed"), "sft --out --resumed");
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_read_them() {
        assert_eq!(
            ["a/b.toml", "x=1,2", "", "it's $5"].map(|word| quoted(OsStr::new(word))),
            ["a/b.toml", "x=1,2", "''", r"'it'\''s $5'"]
        );
    }
}
