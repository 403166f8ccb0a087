//! Directories that hold another run, a damaged one, or no room.

use limbeck_checkpoint::{RunDirectory, verify};

use crate::support::files::{copy, damage, hashes, names};
use crate::support::sandbox::{EXPORT, SFT, STUDENT, Sandbox, TEACHER};
use crate::support::small_device;

const LAST: &str = "step-00000012";

/// Refused, and the run directory as it was.
fn refused(sandbox: &Sandbox, run: &str, stage: &str, arguments: &[&str], fragments: &[&str]) -> anyhow::Result<()> {
    let before = hashes(&sandbox.path(run))?;
    sandbox.stage(stage, arguments)?.refused(2, &[fragments, &["hint: "]].concat())?;
    assert_eq!(hashes(&sandbox.path(run))?, before);
    Ok(())
}

#[test]
fn a_directory_with_a_run_is_refused_without_resume() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let message = format!("run directory `{TEACHER}` already holds a run (`config.toml`)");
    refused(&sandbox, TEACHER, "pretrain", &[], &[&message, "--resume", "--out"])?;
    let step = format!("{TEACHER}/{LAST}");
    refused(&sandbox, TEACHER, "pretrain", &["--out", &step], &["already holds a run (`manifest.json`)"])?;
    // A run that lost its config is one still.
    std::fs::remove_file(sandbox.path(TEACHER).join("config.toml"))?;
    std::fs::remove_file(sandbox.path(TEACHER).join("metrics.jsonl"))?;
    refused(&sandbox, TEACHER, "pretrain", &[], &["already holds a run (`step-00000008`)"])
}

#[test]
fn a_resume_with_another_config_data_or_model_is_refused_by_name() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft", "distill"])?;
    let resume = |run, stage, more: &[&str], what: &str| {
        let message = format!("--resume: the {what} is not the one that `{run}/{LAST}` was made with");
        refused(&sandbox, run, stage, &[&["--resume"][..], more].concat(), &[&message])
    };
    resume(TEACHER, "pretrain", &["--set", "optimizer.learning_rate=1e-3"], "config")?;
    resume(TEACHER, "pretrain", &["--set", "run.seed=6"], "config")?;
    resume(STUDENT, "distill", &["--control", "--out", STUDENT], "teacher")?;
    resume(TEACHER, "sft", &["--out", TEACHER], "stage")?;

    std::fs::copy(sandbox.path("data/tiny/valid.parquet"), sandbox.path("data/tiny/train.parquet"))?;
    resume(TEACHER, "pretrain", &[], "training data")?;

    // Another run at the path of the one that was learned from.
    sandbox.stage("sft", &["--set", "run.seed=8", "--out", "other-sft"])?.complete()?;
    std::fs::rename(sandbox.path(SFT), sandbox.path("first-sft"))?;
    copy(&sandbox.path("other-sft"), &sandbox.path(SFT))?;
    std::fs::rename(sandbox.path(TEACHER), sandbox.path("first-teacher"))?;
    std::fs::remove_file(sandbox.path("data/tiny/tokenizer/prepared.blake3"))?;
    sandbox.stage("prepare", &[])?.complete()?;
    resume(STUDENT, "distill", &[], "teacher")?;
    sandbox.stage("pretrain", &["--set", "run.seed=9"])?.complete()?;
    std::fs::remove_dir_all(sandbox.path(SFT))?;
    std::fs::rename(sandbox.path("first-sft"), sandbox.path(SFT))?;
    resume(SFT, "sft", &[], "starting checkpoint")
}

#[test]
fn a_resume_falls_back_visibly_to_the_step_before_a_damaged_one() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let run = sandbox.path(TEACHER);
    let whole = hashes(&run.join(LAST))?;
    let skipped = format!("warning: skipped checkpoint `{TEACHER}/{LAST}`: `{TEACHER}/{LAST}/");
    let repaired = |reason: &str| -> anyhow::Result<()> {
        let outcome = sandbox.stage("pretrain", &["--resume"])?;
        outcome.says(&[&skipped, reason, &format!("resuming from `{TEACHER}/step-00000008`")])?;
        assert_eq!(outcome.complete()?, format!("{TEACHER}/{LAST}"));
        assert_eq!(hashes(&run.join(LAST))?, whole);
        Ok(())
    };
    damage(&run.join(LAST).join("optimizer.safetensors"))?;
    repaired("has BLAKE3 hash `")?;
    std::fs::remove_file(run.join(LAST).join("model.safetensors"))?;
    repaired("is missing but listed in `manifest.json`")?;
    std::fs::write(run.join(LAST).join("config.json"), "{")?;
    repaired("has `1` bytes, must have the `")?;
    std::fs::write(run.join(LAST).join("manifest.json"), "{")?;
    repaired("is not a manifest")
}

#[test]
fn a_resume_with_every_step_damaged_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    for step in ["step-00000008", LAST] {
        damage(&sandbox.path(TEACHER).join(step).join("model.safetensors"))?;
    }
    let message = format!("--resume: no checkpoint of `{TEACHER}` is whole");
    refused(&sandbox, TEACHER, "pretrain", &["--resume"], &[&message, "has BLAKE3 hash", "--out"])
}

#[test]
fn a_step_to_resume_from_must_be_of_the_run_and_whole() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    copy(&sandbox.path(TEACHER), &sandbox.path("copied"))?;
    let step = format!("copied/{LAST}");
    let outside = format!("--resume is `{step}`, must be a step directory of `{TEACHER}`");
    refused(&sandbox, TEACHER, "pretrain", &["--resume", &step], &[&outside, "start.from"])?;
    refused(&sandbox, TEACHER, "pretrain", &["--resume", "nowhere"], &["--resume is `nowhere`, must be a step"])?;
    let step = format!("{TEACHER}/{LAST}");
    damage(&sandbox.path(&step).join("model.safetensors"))?;
    refused(&sandbox, TEACHER, "pretrain", &["--resume", &step], &["model.safetensors` has BLAKE3 hash"])
}

#[test]
fn a_second_process_is_kept_out_of_a_run() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    // This process is the first.
    let held = RunDirectory::resume(&sandbox.path(TEACHER))?;
    let message = format!("run directory `{TEACHER}` is in use by process `{}`", std::process::id());
    refused(&sandbox, TEACHER, "pretrain", &["--resume"], &[&message])?;
    refused(&sandbox, TEACHER, "pretrain", &[], &[&message])?;
    // Reading takes no lock.
    sandbox.stage("sft", &[])?.complete()?;
    drop(held);
    sandbox.stage("pretrain", &["--resume"])?.complete()?;
    Ok(())
}

#[test]
fn a_full_device_ends_a_run_and_leaves_its_checkpoint() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    // One checkpoint has about 190 kB.
    let script =
        "pretrain --config configs/pretrain.toml --out small/run; status=$?; cp -r small/run kept; exit $status";
    let Some(outcome) = small_device::run(&sandbox, 300, script)? else { return Ok(()) };
    let message = "cannot write `small/run/step-00000008`: ";
    outcome.refused(1, &[message, "No space left on device", "hint: free space", "what was complete is untouched"])?;
    let kept = sandbox.path("kept");
    assert_eq!(names(&kept)?, [".lock", "config.toml", "metrics.jsonl", "step-00000004"]);
    verify(&kept.join("step-00000004"))?;

    sandbox.stage("pretrain", &["--out", "whole"])?.complete()?;
    sandbox.stage("pretrain", &["--out", "kept", "--resume"])?.complete()?;
    assert_eq!(hashes(&kept.join(LAST))?, hashes(&sandbox.path("whole").join(LAST))?);
    Ok(())
}

#[test]
fn a_full_device_is_named_by_every_stage_that_writes() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft", "distill"])?;
    let before = hashes(&sandbox.path("checkpoints"))?;
    let scripts = [
        ("prepare --config configs/prepare.toml --set corpus.path=small/tiny", "small/tiny"),
        ("prepare --config configs/prepare.toml --set tokenizer.path=small/tokenizer", "small/tokenizer"),
        ("pretrain --config configs/pretrain.toml --set data.cache=small/cache --out run", "small/cache"),
        ("export-model --config configs/export-model.toml --out small/export", "small/export"),
    ];
    for (script, path) in scripts {
        let Some(outcome) = small_device::run(&sandbox, 8, script)? else { return Ok(()) };
        let status = if script.starts_with("pretrain") { 2 } else { 1 };
        outcome.refused(status, &[path, "No space left on device", "hint: free space"])?;
    }
    assert_eq!(hashes(&sandbox.path("checkpoints"))?, before);
    assert!(!sandbox.path(EXPORT).exists());
    Ok(())
}
