//! A directory with a tiny corpus, a tokenizer and configs, in which the commands run as a user runs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use tempfile::TempDir;

use crate::support::outcome::Outcome;

/// Where the chain's configs put each stage.
pub(crate) const TEACHER: &str = "checkpoints/trial/teacher";
pub(crate) const SFT: &str = "checkpoints/trial/sft";
pub(crate) const STUDENT: &str = "checkpoints/trial/student";
pub(crate) const EXPORT: &str = "checkpoints/trial/export";

/// The configs, by stage.
const CONFIGS: [(&str, &str); 5] = [
    ("prepare", include_str!("sandbox/prepare.toml")),
    ("pretrain", include_str!("sandbox/pretrain.toml")),
    ("sft", include_str!("sandbox/sft.toml")),
    ("distill", include_str!("sandbox/distill.toml")),
    ("export-model", include_str!("sandbox/export-model.toml")),
];

/// A working directory that goes away with its value.
pub(crate) struct Sandbox {
    directory: TempDir,
}

impl Sandbox {
    /// The configs alone, in `configs/`.
    pub(crate) fn with_configs() -> anyhow::Result<Self> {
        let sandbox = Self { directory: tempfile::tempdir()? };
        for (stage, text) in CONFIGS {
            sandbox.write(&format!("configs/{stage}.toml"), text)?;
        }
        Ok(sandbox)
    }

    /// With the corpus and the tokenizer.
    pub(crate) fn prepared() -> anyhow::Result<Self> {
        let sandbox = Self::with_configs()?;
        sandbox.stage("prepare", &[])?.complete()?;
        Ok(sandbox)
    }

    /// With what `stages` made, in their order.
    pub(crate) fn after(stages: &[&str]) -> anyhow::Result<Self> {
        let sandbox = Self::prepared()?;
        for stage in stages {
            sandbox.stage(stage, &[])?.complete()?;
        }
        Ok(sandbox)
    }

    /// The path of something in it.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    /// Writes a file, and the directories above it.
    pub(crate) fn write(&self, relative: &str, contents: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().context("a file has a parent")?)?;
        Ok(std::fs::write(path, contents)?)
    }

    /// The text of a file.
    pub(crate) fn read(&self, relative: &str) -> anyhow::Result<String> {
        std::fs::read_to_string(self.path(relative)).with_context(|| relative.to_owned())
    }

    /// A stage with its config and `arguments`.
    pub(crate) fn stage(&self, stage: &str, arguments: &[&str]) -> anyhow::Result<Outcome> {
        Outcome::of(&mut self.stage_command(stage, arguments))
    }

    /// [`Sandbox::stage`], not run yet.
    pub(crate) fn stage_command(&self, stage: &str, arguments: &[&str]) -> Command {
        let config = format!("configs/{stage}.toml");
        let mut command = self.command(stage);
        command.args(["--config", &config]).args(arguments);
        command
    }

    /// Any of the commands.
    pub(crate) fn run(&self, binary: &str, arguments: &[&str]) -> anyhow::Result<Outcome> {
        Outcome::of(self.command(binary).args(arguments))
    }

    /// A line of bash, with the commands on the path.
    pub(crate) fn bash(&self, line: &str) -> anyhow::Result<Outcome> {
        let mut command = Command::new("bash");
        command.args(["-c", line]);
        self.confine(&mut command);
        Outcome::of(&mut command)
    }

    /// [`Sandbox::run`] without arguments, not run yet.
    pub(crate) fn command(&self, binary: &str) -> Command {
        let mut command = Command::new(executable(binary));
        self.confine(&mut command);
        command
    }

    /// Lets `command` run in the sandbox: with the commands on its path, and two threads, because sums depend on their
    /// number.
    pub(crate) fn confine(&self, command: &mut Command) {
        let programs = Path::new(executable("limbeck")).parent().unwrap_or(Path::new("."));
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(programs.to_owned()).chain(std::env::split_paths(&inherited));
        command
            .current_dir(self.directory.path())
            .env("RAYON_NUM_THREADS", "2")
            .env("PATH", std::env::join_paths(paths).unwrap_or(inherited))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }
}

/// Every command of the package.
pub(crate) const COMMANDS: [&str; 10] =
    ["limbeck", "plan", "prepare", "pretrain", "sft", "distill", "export-model", "generate", "evaluate", "bench"];

fn executable(name: &str) -> &'static str {
    match name {
        "limbeck" => env!("CARGO_BIN_EXE_limbeck"),
        "plan" => env!("CARGO_BIN_EXE_plan"),
        "prepare" => env!("CARGO_BIN_EXE_prepare"),
        "pretrain" => env!("CARGO_BIN_EXE_pretrain"),
        "sft" => env!("CARGO_BIN_EXE_sft"),
        "distill" => env!("CARGO_BIN_EXE_distill"),
        "export-model" => env!("CARGO_BIN_EXE_export-model"),
        "generate" => env!("CARGO_BIN_EXE_generate"),
        "evaluate" => env!("CARGO_BIN_EXE_evaluate"),
        "bench" => env!("CARGO_BIN_EXE_bench"),
        other => panic!("there is no command `{other}`"),
    }
}
