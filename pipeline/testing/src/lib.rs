//! What unit tests of several crates share. Nothing that is shipped depends on it.

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

/// What a child prints when it waits to be killed.
const STOPPED: &str = "stopped";

/// A child of the running test binary that waits at a point until it is killed, with this value at the latest.
#[derive(Debug)]
pub struct Stopped {
    child: Child,
    /// Stays open: a child that cannot print would panic.
    _lines: BufReader<ChildStdout>,
}

impl Stopped {
    /// Starts the test `name`, which does its work where `variables` are set, and waits until it is at [`stop`].
    ///
    /// # Errors
    /// If the child ends before it stops.
    pub fn in_test(name: &str, variables: &[(&str, &OsStr)]) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(["--exact", name, "--nocapture"])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        while line.trim() != STOPPED {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                let status = child.wait()?;
                return Err(io::Error::other(format!(
                    "`{name}` ended before it stopped, with {status}: {variables:?}"
                )));
            }
        }
        Ok(Self { child, _lines: lines })
    }

    /// The child's process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Stopped {
    /// SIGKILL on Unix.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a child waits to be killed.
pub fn stop() -> ! {
    println!("\n{STOPPED}");
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}
