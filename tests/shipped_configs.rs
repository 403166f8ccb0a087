//! Every shipped config passes `--check`, on data of the layout that it names.

use std::collections::BTreeSet;
use std::fs;

use anyhow::ensure;

use crate::support::project::{Project, source_root};

/// The files of a set.
const STAGES: [&str; 5] = ["prepare", "pretrain", "sft", "distill", "export-model"];

/// Checks every stage of `configs/<set>` in their order. After its check a stage runs for one step, for the next one
/// wants its checkpoint. `small` goes to the stages that train: a check measures two steps.
fn check_all(project: &Project, set: &str, prepare: &[&str], small: &[&str]) -> anyhow::Result<()> {
    let config = |stage: &str| format!("configs/{set}/{stage}.toml");
    let run = |stage: &str, arguments: &[&str]| {
        let config = config(stage);
        project.run(stage, &[&["--config", config.as_str()], arguments].concat())
    };
    let checkpoints = project.root().join("checkpoints").join(set);
    for (stage, directory) in [("pretrain", "teacher"), ("sft", "sft"), ("distill", "student")] {
        if stage == "pretrain" {
            ensure!(run("prepare", &[prepare, &["--check"]].concat())?.contains("[tokenizer]"));
            run("prepare", prepare)?;
        }
        let check = [small, &["--check"]].concat();
        let resolved = run(stage, &check)?;
        ensure!(resolved.contains("[train]") && resolved.contains("tokens_per_step"), "{stage} --check: {resolved}");
        ensure!(!checkpoints.join(directory).exists(), "{stage} --check left a run");
        if stage == "distill" {
            run(stage, &[&check[..], &["--control"]].concat())?;
        }
        let mut one_step = vec!["train.max_steps=1", "schedule.warmup_steps=0"];
        if fs::read_to_string(project.root().join(config(stage)))?.contains("\ndecay_steps = ") {
            one_step.push("schedule.decay_steps=1");
        }
        let one_step: Vec<&str> = one_step.into_iter().flat_map(|key| ["--set", key]).collect();
        let step = run(stage, &[small, &one_step].concat())?;
        ensure!(step.ends_with("step-00000001"), "{stage}: {step}");
    }
    ensure!(run("export-model", &["--check"])?.contains("[export]"));
    ensure!(!checkpoints.join("export").exists(), "export-model --check left files");
    Ok(())
}

#[test]
fn the_tiny_configs_pass_the_check() -> anyhow::Result<()> {
    check_all(&Project::temporary()?, "tiny", &[], &[])
}

/// The books are not in the repository: in their place lies the tiny world, in files of the same layout.
#[test]
fn the_books_configs_pass_the_check() -> anyhow::Result<()> {
    let project = Project::temporary()?;
    let counts = ["train_documents=300", "valid_documents=40", "train_chats=60", "valid_chats=20"];
    let counts = counts.map(|count| format!("corpus.{count}"));
    let mut arguments = vec!["--config", "configs/tiny/prepare.toml", "--set", "tokenizer.vocab_size=512"];
    arguments.extend(counts.iter().flat_map(|count| ["--set", count.as_str()]));
    project.run("prepare", &arguments)?;
    for (stand_in, path) in [
        ("train", "books/train-00000-of-00001"),
        ("valid", "books/valid"),
        ("chats-train", "instructions/train"),
        ("chats-valid", "instructions/valid"),
    ] {
        let target = project.root().join("../shared/data").join(path).with_extension("parquet");
        fs::create_dir_all(target.with_file_name(""))?;
        fs::copy(project.root().join("data/tiny").join(stand_in).with_extension("parquet"), target)?;
    }
    // The stand-in has too few words for the tokenizer of the books.
    let prepare = ["--set", "tokenizer.vocab_size=768"];
    check_all(&project, "books", &prepare, &["--set", "train.tokens_per_step=256"])
}

#[test]
fn no_shipped_config_is_left_out() -> anyhow::Result<()> {
    let names = |path: std::path::PathBuf| -> anyhow::Result<BTreeSet<String>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let configs = source_root().join("configs");
    ensure!(names(configs.clone())? == ["books", "tiny"].map(String::from).into());
    for set in ["books", "tiny"] {
        ensure!(names(configs.join(set))? == STAGES.map(|stage| format!("{stage}.toml")).into());
    }
    Ok(())
}
