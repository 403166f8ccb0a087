//! README.md says nothing that does not work: its commands run as they stand, and the files that it names are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, ensure};

use crate::support::project::{Project, source_root};

/// What a command of cargo may be called with in the README, besides `--features`.
const CARGO_FLAGS: [&str; 2] = ["--release", "--workspace"];

/// A ```` ```bash ```` block.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    /// Of its first command, counted from 1.
    line: usize,
    commands: String,
}

impl Block {
    /// Its lines without comments and empty ones.
    fn lines(&self) -> impl Iterator<Item = &str> {
        self.commands.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    }

    /// Whether it compiles: its form is checked, for the test runs within such a command itself.
    fn builds(&self) -> bool {
        self.lines().any(|line| line.starts_with("cargo "))
    }
}

fn bash_blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in markdown.lines().enumerate() {
        match (&mut open, line.trim_end()) {
            (None, "```bash") => open = Some(Block { line: index + 2, commands: String::new() }),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => {
                block.commands += line;
                block.commands += "\n";
            }
            (None, _) => {}
        }
    }
    blocks
}

/// Runs the blocks in one shell, as a reader would type them, up to the first command that fails.
fn run(project: &Project, blocks: &[&Block]) -> anyhow::Result<()> {
    let mut script = String::from("set -euo pipefail\n");
    for block in blocks {
        script += &format!("echo '# README.md, line {}' >&2\n{}", block.line, block.commands);
    }
    let output = project.command("bash")?.arg("-c").arg(script).stdin(Stdio::null()).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{stderr}", output.status);
    Ok(())
}

/// Whether cargo would take a command, without building. What follows `--` goes to `limbeck`, which checks it itself.
fn check_cargo(project: &Project, line: &str, features: &BTreeSet<String>) -> anyhow::Result<()> {
    let (line, program_arguments) = line.split_once(" -- ").unwrap_or((line, ""));
    let mut words = line.split_whitespace().skip(1);
    let subcommand = words.next().context("cargo without a subcommand")?;
    ensure!(["build", "run", "test"].contains(&subcommand), "cargo has no use for `{subcommand}` here");
    while let Some(word) = words.next() {
        if word == "--features" {
            let named = words.next().context("--features without a value")?;
            let unknown = named.split(',').find(|feature| !features.contains(*feature));
            ensure!(unknown.is_none(), "Cargo.toml has no feature `{named}`");
        } else {
            ensure!(CARGO_FLAGS.contains(&word), "`{word}` is not an option that the README uses");
        }
    }
    if subcommand == "run" {
        // `--help` ends it after the arguments before were read.
        let arguments: Vec<&str> = program_arguments.split_whitespace().chain(["--help"]).collect();
        project.run("limbeck", &arguments)?;
    }
    Ok(())
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(source_root().join(path)).context(path.to_owned())
}

/// The keys of `[features]`.
fn features(manifest: &str) -> BTreeSet<String> {
    let section = manifest.lines().skip_while(|line| *line != "[features]").skip(1);
    section
        .take_while(|line| !line.starts_with('['))
        .filter_map(|l| l.split_once(" = "))
        .map(|l| l.0.to_owned())
        .collect()
}

/// The names in `[[bin]]`.
fn binaries(manifest: &str) -> Vec<String> {
    let sections = manifest.split("[[bin]]\nname = \"").skip(1);
    sections.filter_map(|section| section.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn every_command_of_the_readme_runs() -> anyhow::Result<()> {
    let project = Project::temporary()?;
    let blocks = bash_blocks(&read("README.md")?);
    let features = features(&read("Cargo.toml")?);
    let (building, running): (Vec<&Block>, Vec<&Block>) = blocks.iter().partition(|block| block.builds());
    for block in building {
        for line in block.lines() {
            check_cargo(&project, line, &features)
                .with_context(|| format!("README.md, line {}: {line}", block.line))?;
        }
    }
    run(&project, &running)
}

#[test]
fn every_stage_has_a_command_in_the_readme() -> anyhow::Result<()> {
    let blocks = bash_blocks(&read("README.md")?);
    let commands: String = blocks.iter().filter(|block| !block.builds()).map(|block| block.commands.as_str()).collect();
    let words: BTreeSet<&str> = commands.split(|c: char| !c.is_alphanumeric() && c != '-').collect();
    let missing: Vec<String> = binaries(&read("Cargo.toml")?)
        .into_iter()
        // `cargo run` is its command.
        .filter(|binary| binary != "limbeck" && !words.contains(binary.as_str()))
        .collect();
    ensure!(missing.is_empty(), "README.md has no command of {missing:?}");
    Ok(())
}

/// Where a name in backticks would be, if it looks like a file of the repository. What is generated is none.
fn named_file(document: &str, name: &str) -> Option<PathBuf> {
    if name.contains(|c: char| c.is_whitespace() || "<*{".contains(c)) {
        return None;
    }
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if starts(&["pipeline/", "configs/", "tests/", ".ci/"]) {
        return Some(source_root().join(name));
    }
    let of_a_crate = starts(&["bin/", "src/"]) || name.contains("/src/");
    (document == "pipeline/README.md" && of_a_crate).then(|| source_root().join("pipeline").join(name))
}

#[test]
fn the_files_that_the_documents_name_are_there() -> anyhow::Result<()> {
    for document in ["README.md", "pipeline/README.md", "data/README.md", "checkpoints/README.md"] {
        for name in read(document)?.split('`').skip(1).step_by(2) {
            let missing = named_file(document, name).is_some_and(|path| !path.exists());
            ensure!(!missing, "{document} names `{name}`, which is not there");
        }
    }
    Ok(())
}

#[test]
fn the_reference_commands_are_the_first_two() -> anyhow::Result<()> {
    let blocks = bash_blocks(&read("README.md")?);
    let lines: Vec<&str> = blocks.iter().flat_map(Block::lines).take(2).collect();
    ensure!(lines == ["cargo run --release", "cargo test --release --workspace"], "{lines:?}");
    Ok(())
}

/// What the runner makes of a README with these commands.
fn outcome(commands: &str) -> anyhow::Result<()> {
    let blocks = bash_blocks(&format!("text\n```bash\n{commands}\n```\n```text\nfalse\n```\n"));
    run(&Project::temporary()?, &blocks.iter().collect::<Vec<_>>())
}

#[test]
fn the_runner_fails_on_a_wrong_command() -> anyhow::Result<()> {
    outcome("generate --help >file\ntest -s file")?;
    for wrong in
        ["pretrain --confg configs/tiny/pretrain.toml", "pretrian --help", "sft --help >file && test ! -e file"]
    {
        // Not the last one, and not in a block of its own.
        let error = outcome(&format!("true\n{wrong}\ntrue")).expect_err(wrong).to_string();
        ensure!(error.contains("README.md, line 3"), "{error}");
    }
    Ok(())
}

#[test]
fn the_check_fails_on_a_wrong_command_of_cargo() -> anyhow::Result<()> {
    let project = Project::temporary()?;
    let features = features("[features]\nvulkan = [\"wgpu\"]\n\n[dependencies]\nwgpu = \"1\"\n");
    check_cargo(&project, "cargo run --release --features vulkan -- --device auto", &features)?;
    for wrong in [
        "cargo rum --release",
        "cargo run --relase",
        "cargo test --release --features wgpu",
        "cargo run --release -- --devise auto",
        "cargo run --release -- --device gpu",
    ] {
        ensure!(check_cargo(&project, wrong, &features).is_err(), "`{wrong}` passed");
    }
    Ok(())
}

#[test]
fn blocks_are_found_with_their_lines() {
    let markdown = "a\n```bash\n# why\nx \\\n  -y\n```\n```sh\nz\n```\n";
    let blocks = bash_blocks(markdown);
    assert_eq!(blocks, [Block { line: 3, commands: "# why\nx \\\n  -y\n".to_owned() }]);
    assert_eq!(blocks[0].lines().collect::<Vec<_>>(), ["x \\", "-y"]);
    assert!(!blocks[0].builds());
}
