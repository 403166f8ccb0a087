//! What is damaged is named, and the checkpoint before it is taken.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use super::{run_of, save};
use crate::{RunDirectory, resolve, verify};

type Damage = fn(&Path) -> io::Result<()>;

fn flip_a_byte(step: &Path) -> io::Result<()> {
    let path = step.join("model.safetensors");
    let mut bytes = fs::read(&path)?;
    bytes[617] ^= 1;
    fs::write(path, bytes)
}

fn truncate(step: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(step.join("optimizer.safetensors"))?.set_len(1012)
}

fn delete_a_file(step: &Path) -> io::Result<()> {
    fs::remove_file(step.join("config.json"))
}

fn delete_the_manifest(step: &Path) -> io::Result<()> {
    fs::remove_file(step.join("manifest.json"))
}

fn truncate_the_manifest(step: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(step.join("manifest.json"))?.set_len(64)
}

/// Replaces text of the manifest.
fn edit_manifest(step: &Path, from: &str, to: &str) -> io::Result<()> {
    let path = step.join("manifest.json");
    let text = fs::read_to_string(&path)?;
    assert!(text.contains(from), "`{from}` is not in {text}");
    fs::write(path, text.replace(from, to))
}

fn raise_the_version(step: &Path) -> io::Result<()> {
    edit_manifest(step, r#""format_version": 1"#, r#""format_version": 2"#)
}

fn change_the_step(step: &Path) -> io::Result<()> {
    edit_manifest(step, r#""step": 300"#, r#""step": 299"#)
}

fn point_outside(step: &Path) -> io::Result<()> {
    edit_manifest(step, r#""config.json""#, r#""../step-00000200/config.json""#)
}

const DAMAGES: [(Damage, &str); 8] = [
    (flip_a_byte, "model.safetensors` has BLAKE3 hash `"),
    (truncate, "optimizer.safetensors` has `1012` bytes, must have the `1013` of `manifest.json`"),
    (delete_a_file, "config.json` is missing but listed in `manifest.json`"),
    (delete_the_manifest, "manifest.json` is missing, so `"),
    (truncate_the_manifest, "manifest.json` is not a manifest: EOF while parsing"),
    (raise_the_version, "manifest.json` has format_version `2`, must be `1`"),
    (change_the_step, "manifest.json` has step `299`, must be the `300` of its directory's name"),
    (point_outside, "manifest.json` lists file `../step-00000200/config.json`, must be a file name"),
];

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_is_taken() -> Result<(), Box<dyn Error>> {
    for (damage, expected) in DAMAGES {
        let directory = tempfile::tempdir()?;
        run_of(directory.path(), &[200, 300])?;
        let step = directory.path().join("step-00000300");
        damage(&step)?;

        let Err(error) = verify(&step) else { return Err(format!("not seen: {expected}").into()) };
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("; hint: "), "{error}");
        assert!(resolve(&step).is_err(), "{expected}: a step directory is not used unverified");

        let resolved = resolve(directory.path())?;
        assert_eq!(resolved.path, directory.path().join("step-00000200"));
        let skipped: Vec<_> = resolved.skipped.iter().map(ToString::to_string).collect();
        assert_eq!(skipped, [format!("skipped checkpoint `{}`: {error}", step.display())]);

        let newest = RunDirectory::resume(directory.path())?.newest()?;
        assert_eq!(newest.checkpoint.map(|found| found.path), Some(resolved.path));
        assert_eq!(newest.skipped.len(), 1);
    }
    Ok(())
}

#[test]
fn an_undamaged_checkpoint_verifies_with_other_files_beside_it() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    run_of(directory.path(), &[300])?;
    let step = directory.path().join("step-00000300");
    fs::write(step.join("notes.txt"), "not ours")?;
    assert_eq!(verify(&step)?.files.len(), 3);
    Ok(())
}

#[test]
fn a_run_of_damaged_checkpoints_is_refused_with_every_reason() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    run_of(directory.path(), &[200, 300])?;
    truncate(&directory.path().join("step-00000200"))?;
    delete_the_manifest(&directory.path().join("step-00000300"))?;
    let Err(error) = resolve(directory.path()) else { return Err("resolved".into()) };
    assert!(error.to_string().contains("has no checkpoint that verifies"), "{error}");
    assert!(error.to_string().contains("step-00000200/optimizer.safetensors"), "{error}");
    assert!(error.to_string().contains("step-00000300/manifest.json"), "{error}");
    Ok(())
}

#[test]
fn a_damaged_checkpoint_does_not_push_a_good_one_out() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    run_of(directory.path(), &[200, 300])?;
    truncate(&directory.path().join("step-00000300"))?;
    let run = RunDirectory::resume(directory.path())?;
    save(&run, 350)?;
    verify(&directory.path().join("step-00000200"))?;
    save(&run, 400)?;
    assert_eq!(super::names(directory.path())?, ["step-00000350", "step-00000400"]);
    Ok(())
}

#[test]
fn saving_a_damaged_step_again_replaces_it() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    run_of(directory.path(), &[200, 300])?;
    let step = directory.path().join("step-00000300");
    flip_a_byte(&step)?;
    save(&RunDirectory::resume(directory.path())?, 300)?;
    verify(&step)?;
    assert_eq!(super::names(directory.path())?, ["step-00000200", "step-00000300"]);
    Ok(())
}
