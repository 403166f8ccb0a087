//! A project directory of its own, for tests that run the commands.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// A directory with the shipped `configs/`, in which the commands of this build run.
pub(crate) struct Project {
    root: PathBuf,
    /// Removed with it.
    _temporary: Option<TempDir>,
}

impl Project {
    /// In a temporary directory; there is room for directories beside it, such as `../shared`.
    pub(crate) fn temporary() -> anyhow::Result<Self> {
        let temporary = tempfile::tempdir()?;
        Self::create(temporary.path().join("limbeck"), Some(temporary))
    }

    /// At a path that is made anew and stays.
    pub(crate) fn at(root: PathBuf) -> anyhow::Result<Self> {
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        Self::create(root, None)
    }

    fn create(root: PathBuf, temporary: Option<TempDir>) -> anyhow::Result<Self> {
        copy_directory(&source_root().join("configs"), &root.join("configs"))?;
        Ok(Self { root, _temporary: temporary })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A command with the project as working directory and this build's binaries first in `PATH`.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> anyhow::Result<Command> {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("PATH", path_with_binaries()?);
        Ok(command)
    }

    /// Runs a stage and gives its stdout, without white space at the ends.
    pub(crate) fn run(&self, stage: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(binaries().join(stage))?.args(arguments).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{stage} {}: {}\n{stderr}", arguments.join(" "), output.status);
        Ok(String::from_utf8(output.stdout).context("stdout is not UTF-8")?.trim().to_owned())
    }
}

/// Where the project's sources are.
pub(crate) fn source_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where this build's binaries are.
pub(crate) fn binaries() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_limbeck")).parent().unwrap_or(Path::new("."))
}

fn path_with_binaries() -> anyhow::Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = std::env::split_paths(&path);
    Ok(std::env::join_paths([binaries().to_owned()].into_iter().chain(others))?)
}

/// Copies files and directories; `to` is made with its parents.
pub(crate) fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
