//! Runs that are ended on their way.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use crate::support::outcome::Outcome;
use crate::support::sandbox::Sandbox;

/// Longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts `command` and, once `is_time`, sends it `signal`, such as `KILL`. `None` where it ended before.
pub(crate) fn signal(
    command: &mut Command,
    signal: &str,
    is_time: impl Fn() -> bool,
) -> anyhow::Result<Option<Outcome>> {
    let mut child = command.spawn()?;
    let started = Instant::now();
    while !is_time() {
        if child.try_wait()?.is_some() {
            return Ok(None);
        }
        if started.elapsed() > PATIENCE {
            child.kill()?;
            bail!("nothing happened: {:?}", Outcome::from_output(child.wait_with_output()?)?);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    send(&child, signal)?;
    Ok(Some(Outcome::from_output(child.wait_with_output()?)?))
}

/// The child has not been waited for, so its number is still its own.
pub(crate) fn send(child: &Child, signal: &str) -> anyhow::Result<()> {
    let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &child.id().to_string()]).status()?;
    ensure!(sent.success(), "SIG{signal} was not sent");
    Ok(())
}

/// Rows of a run's `metrics.jsonl`, complete ones; 0 before there is one.
pub(crate) fn steps_logged(sandbox: &Sandbox, run: &str) -> usize {
    let text = std::fs::read_to_string(sandbox.path(run).join("metrics.jsonl")).unwrap_or_default();
    text.matches('\n').count()
}

/// Whether a run's directory has a checkpoint that is being written.
pub(crate) fn is_saving(sandbox: &Sandbox, run: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(sandbox.path(run)) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with("step-") && name.contains(".tmp-")
    })
}
