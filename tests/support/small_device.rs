//! A file system that fills up.

use std::io::ErrorKind;
use std::process::Command;

use crate::support::outcome::Outcome;
use crate::support::sandbox::Sandbox;

/// Ends the shell where the machine grants no file system of its own.
const NO_MOUNT: i32 = 77;

/// Runs `script` in `sh` with a file system of `kilobytes` at `small/` in the sandbox, in a mount namespace of its own:
/// it is gone afterwards. `None` where the machine grants none, which is said.
pub(crate) fn run(sandbox: &Sandbox, kilobytes: usize, script: &str) -> anyhow::Result<Option<Outcome>> {
    std::fs::create_dir_all(sandbox.path("small"))?;
    let mount = format!("mount -t tmpfs -o size={kilobytes}k tmpfs small || exit {NO_MOUNT}; {script}");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &mount]);
    sandbox.confine(&mut command);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("no small file system here: `unshare` is not installed");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let outcome = Outcome::from_output(output)?;
    if outcome.status == NO_MOUNT || outcome.stderr.starts_with("unshare:") {
        println!("no small file system here: {}", outcome.stderr);
        return Ok(None);
    }
    Ok(Some(outcome))
}
