//! A path means a step, the newest step of a run, or somebody else's model.

use std::error::Error;
use std::fs;

use super::run_of;
use crate::{CheckpointError, Parent, content_hash, resolve};

#[test]
fn a_step_directory_means_itself_and_a_run_its_newest_step() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    run_of(directory.path(), &[9, 100_000_000])?;
    for (path, expected, step) in [
        (directory.path().to_owned(), "step-100000000", 100_000_000),
        (directory.path().join("step-00000009"), "step-00000009", 9),
    ] {
        let resolved = resolve(&path)?;
        assert_eq!(resolved.path, directory.path().join(expected));
        assert_eq!(resolved.manifest.map(|manifest| manifest.step), Some(step));
        assert!(resolved.skipped.is_empty());
    }
    Ok(())
}

#[test]
fn a_checkpoint_that_was_copied_elsewhere_still_verifies() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    run_of(&directory.path().join("run"), &[9])?;
    let copy = directory.path().join("my-teacher");
    fs::rename(directory.path().join("run/step-00000009"), &copy)?;
    assert_eq!(resolve(&copy)?.manifest.map(|manifest| manifest.step), Some(9));
    Ok(())
}

#[test]
fn a_foreign_model_directory_has_no_manifest_and_the_hash_of_its_weights() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("config.json"), "{}")?;
    fs::write(directory.path().join("model.safetensors"), b"abc")?;
    let resolved = resolve(directory.path())?;
    assert_eq!((resolved.path.as_path(), resolved.manifest), (directory.path(), None));
    assert_eq!(Parent::of(directory.path())?.hash, content_hash(b"abc"));
    Ok(())
}

#[test]
fn weights_in_several_files_have_the_hash_of_all_of_them() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    for name in ["config.json", "model.safetensors.index.json", "a.safetensors", "b.safetensors"] {
        fs::write(directory.path().join(name), name)?;
    }
    assert_eq!(resolve(directory.path())?.path, directory.path());
    let before = Parent::of(directory.path())?.hash;
    fs::write(directory.path().join("config.json"), "{}")?;
    assert_eq!(Parent::of(directory.path())?.hash, before, "a configuration is no weight");
    fs::write(directory.path().join("b.safetensors"), "other")?;
    let changed = Parent::of(directory.path())?.hash;
    assert_ne!(changed, before);
    // The same bytes under another name.
    fs::rename(directory.path().join("a.safetensors"), directory.path().join("c.safetensors"))?;
    assert_ne!(Parent::of(directory.path())?.hash, changed);
    Ok(())
}

#[test]
fn a_gguf_file_means_itself() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("model.GGUF");
    fs::write(&path, b"abc")?;
    assert_eq!(resolve(&path)?.path, path);
    assert_eq!(Parent::of(&path)?.hash, content_hash(b"abc"));
    Ok(())
}

#[test]
fn the_hash_of_a_checkpoint_is_that_of_its_manifest() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    run_of(directory.path(), &[9])?;
    let step = directory.path().join("step-00000009");
    let manifest = fs::read(step.join("manifest.json"))?;
    assert_eq!(Parent::of(&step)?, Parent { path: step.display().to_string(), hash: content_hash(&manifest) });
    Ok(())
}

#[test]
fn what_is_no_model_is_refused() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("config.json"), "{}")?;
    fs::create_dir(directory.path().join("step-9"))?;
    assert!(matches!(resolve(directory.path()), Err(CheckpointError::NotAModel { .. })));
    assert!(matches!(resolve(&directory.path().join("config.json")), Err(CheckpointError::NotAModel { .. })));
    assert!(matches!(resolve(&directory.path().join("teacher")), Err(CheckpointError::NotFound { .. })));
    Ok(())
}
