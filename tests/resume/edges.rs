//! What is complete, what has not begun, and the optimizer's state as a negative control.

use std::path::Path;

use limbeck_checkpoint::{Manifest, ManifestHeader, RunDirectory, verify};
use limbeck_model::{load_tensors, save_tensors};

use super::stages::{STEPS, assert_equal, stages};
use crate::support::files::{copy, hashes};
use crate::support::sandbox::{Sandbox, TEACHER};

#[test]
fn a_complete_run_is_left_as_it_is_and_its_path_printed() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let before = hashes(&sandbox.path(TEACHER))?;
    let outcome = sandbox.stage("pretrain", &["--resume"])?;
    outcome.says(&["pretrain: already complete"])?;
    assert_eq!(outcome.complete()?, format!("{TEACHER}/step-00000012"));
    assert_eq!(hashes(&sandbox.path(TEACHER))?, before);
    Ok(())
}

#[test]
fn a_resume_starts_where_there_is_nothing() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let [pretrain, ..] = stages();
    let whole = pretrain.uninterrupted(&sandbox)?;
    pretrain.resumed(&sandbox, "runs/new")?.complete()?;
    assert_equal(&sandbox, "runs/new", &whole)?;
    std::fs::create_dir_all(sandbox.path("runs/empty"))?;
    pretrain.resumed(&sandbox, "runs/empty")?.complete()?;
    assert_equal(&sandbox, "runs/empty", &whole)
}

#[test]
fn two_runs_are_equal_and_another_seed_is_not() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let weights = |out: &str, seed: &str| -> anyhow::Result<Vec<u8>> {
        let seed = format!("run.seed={seed}");
        let step = sandbox.stage("pretrain", &["--out", out, "--set", &seed])?.complete()?;
        Ok(std::fs::read(sandbox.path(&step).join("model.safetensors"))?)
    };
    let first = weights("runs/first", "5")?;
    assert_eq!(weights("runs/second", "5")?, first);
    assert_ne!(weights("runs/third", "6")?, first);
    Ok(())
}

#[test]
fn a_resume_from_a_given_step_goes_over_the_later_ones() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let [pretrain, ..] = stages();
    let whole = pretrain.uninterrupted(&sandbox)?;
    copy(&sandbox.path(&whole), &sandbox.path("runs/copy"))?;
    // `uninterrupted` keeps two: this one and the last.
    let step = format!("runs/copy/step-{:08}", STEPS - 5);
    let resumed =
        crate::support::outcome::Outcome::of(&mut pretrain.command(&sandbox, "runs/copy", &["--resume", &step]))?;
    resumed.says(&[&format!("resuming from `{step}`")])?;
    resumed.complete()?;
    assert_equal(&sandbox, "runs/copy", &whole)
}

/// The run's last step but one is written anew with the moments that `change` leaves; then the last is made again.
fn resumed_with(sandbox: &Sandbox, whole: &str, run: &str, change: fn(&mut f32)) -> anyhow::Result<()> {
    copy(&sandbox.path(whole), &sandbox.path(run))?;
    let step = sandbox.path(run).join(format!("step-{:08}", STEPS - 5));
    std::fs::remove_dir_all(sandbox.path(run).join(format!("step-{STEPS:08}")))?;
    let header = header(verify(&step)?);
    RunDirectory::resume(&sandbox.path(run))?.save(header, |new| rewrite(&step, new, change))?;
    let [pretrain, ..] = stages();
    pretrain.resumed(sandbox, run)?.complete()?;
    Ok(())
}

fn header(manifest: Manifest) -> ManifestHeader {
    let Manifest { stage, step, tokens_seen, seed, complete, config_hash, data_fingerprint, parent, teacher, .. } =
        manifest;
    ManifestHeader { stage, step, tokens_seen, seed, complete, config_hash, data_fingerprint, parent, teacher }
}

fn rewrite(step: &Path, new: &Path, change: fn(&mut f32)) -> anyhow::Result<()> {
    copy(step, new)?;
    // The manifest is written last, by the save itself.
    std::fs::remove_file(new.join("manifest.json"))?;
    let mut moments = load_tensors(&step.join("optimizer.safetensors"))?;
    moments.values_mut().flat_map(|tensor| &mut tensor.values).for_each(change);
    Ok(save_tensors(&new.join("optimizer.safetensors"), &moments)?)
}

#[test]
fn a_resume_without_the_optimizers_state_ends_with_other_weights() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let [pretrain, ..] = stages();
    let whole = pretrain.uninterrupted(&sandbox)?;
    // Written anew as it was: the way is good.
    resumed_with(&sandbox, &whole, "runs/kept", |_| ())?;
    assert_equal(&sandbox, "runs/kept", &whole)?;
    resumed_with(&sandbox, &whole, "runs/lost", |moment| *moment = 0.0)?;
    let weights = |run: &str| std::fs::read(sandbox.path(run).join(format!("step-{STEPS:08}/model.safetensors")));
    assert_ne!(weights("runs/lost")?, weights(&whole)?);
    Ok(())
}
