//! `prepare` and `export-model`, which have no steps: killed, they are run again.

use anyhow::bail;

use crate::support::files::hashes;
use crate::support::interruption::signal;
use crate::support::sandbox::{EXPORT, Sandbox};

#[test]
fn a_killed_prepare_makes_the_same_files_when_it_is_run_again() -> anyhow::Result<()> {
    let whole = Sandbox::prepared()?;
    let expected = hashes(&whole.path("data"))?;
    for file in ["tiny/train.parquet", "tiny/chats-train.parquet", "tiny/tokenizer", "tiny/tokenizer/tokenizer.json"] {
        let sandbox = prepare_killed_at(file)?;
        sandbox.stage("prepare", &[])?.complete()?;
        let mut found = hashes(&sandbox.path("data"))?;
        // A file of a dead process, under its temporary name.
        found.retain(|name, _| !name.contains(".tmp"));
        assert_eq!(found, expected, "killed at {file}");
    }
    Ok(())
}

fn prepare_killed_at(file: &str) -> anyhow::Result<Sandbox> {
    for _ in 0..100 {
        let sandbox = Sandbox::with_configs()?;
        let path = sandbox.path("data").join(file);
        let outcome = signal(&mut sandbox.stage_command("prepare", &[]), "KILL", || path.exists())?;
        if outcome.is_some_and(|outcome| outcome.status == 137) {
            return Ok(sandbox);
        }
    }
    bail!("prepare was never caught at {file}")
}

#[test]
fn a_killed_export_makes_the_same_files_when_it_is_run_again() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft", "distill", "export-model"])?;
    let expected = hashes(&sandbox.path(EXPORT))?;
    for file in ["hugging-face.tmp", "hugging-face", "model-f32.gguf", "model-f16.gguf"] {
        let out = export_killed_at(&sandbox, file)?;
        sandbox.stage("export-model", &["--out", &out])?.complete()?;
        let mut found = hashes(&sandbox.path(&out))?;
        found.retain(|name, _| !name.contains(".tmp"));
        assert_eq!(found, expected, "killed at {file}");
    }
    Ok(())
}

fn export_killed_at(sandbox: &Sandbox, file: &str) -> anyhow::Result<String> {
    for attempt in 0..100 {
        let out = format!("exports/{file}-{attempt}");
        let path = sandbox.path(&out).join(file);
        let mut command = sandbox.stage_command("export-model", &["--out", &out]);
        let outcome = signal(&mut command, "KILL", || path.exists())?;
        let killed = outcome.is_some_and(|outcome| outcome.status == 137);
        if killed && !sandbox.path(&out).join("export.json").exists() {
            return Ok(out);
        }
    }
    bail!("export-model was never caught at {file}")
}

#[test]
fn what_is_complete_is_not_made_again() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft", "distill", "export-model"])?;
    let before = (hashes(&sandbox.path("data"))?, hashes(&sandbox.path(EXPORT))?);
    for stage in ["prepare", "export-model"] {
        let again = sandbox.stage(stage, &[])?;
        again.says(&[&format!("{stage}: already complete")])?;
        again.complete()?;
    }
    assert_eq!((hashes(&sandbox.path("data"))?, hashes(&sandbox.path(EXPORT))?), before);
    Ok(())
}

#[test]
fn a_file_that_went_missing_is_made_again() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft", "distill", "export-model"])?;
    let before = (hashes(&sandbox.path("data/tiny"))?, hashes(&sandbox.path(EXPORT))?);
    std::fs::remove_file(sandbox.path("data/tiny/valid.parquet"))?;
    std::fs::remove_file(sandbox.path(EXPORT).join("model-f16.gguf"))?;
    sandbox.stage("prepare", &[])?.complete()?;
    sandbox.stage("export-model", &[])?.complete()?;
    assert_eq!((hashes(&sandbox.path("data/tiny"))?, hashes(&sandbox.path(EXPORT))?), before);
    Ok(())
}

#[test]
fn a_prepare_that_fails_does_not_pass_for_the_one_before() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let expected = hashes(&sandbox.path("data/tiny"))?;
    // Another corpus, on which no tokenizer can be trained.
    let sets =
        ["--set", "corpus.train_documents=3", "--set", "corpus.train_chats=1", "--set", "tokenizer.vocab_size=9999"];
    sandbox.stage("prepare", &sets)?.refused(2, &["tokenizer.vocab_size is `9999`, the corpus fills only `"])?;
    sandbox.stage("prepare", &[])?.complete()?;
    assert_eq!(hashes(&sandbox.path("data/tiny"))?, expected);
    Ok(())
}
