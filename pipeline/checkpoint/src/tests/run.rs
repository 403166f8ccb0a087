//! One run at a time in a directory, whole checkpoints in it, the newest kept.

use std::error::Error;
use std::fs;
use std::path::Path;

use super::{header, names, save, weights};
use crate::{CheckpointError, Parent, RunDirectory, content_hash, verify, write_atomically, write_atomically_with};

/// The first test vector of the BLAKE3 reference and the `b3sum` of three letters.
#[test]
fn hashes_are_blake3() {
    assert_eq!(content_hash(b""), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    assert_eq!(content_hash(b"abc"), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
}

#[test]
fn the_manifest_lists_every_file_with_size_and_hash() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("teacher");
    let parent = Parent { path: "checkpoints/tiny/teacher".into(), hash: content_hash(b"parent") };
    let mut expected = header(1200);
    expected.parent = Some(parent);
    expected.complete = true;
    let run = RunDirectory::create(&path)?;
    let step = run.save(expected.clone(), |step| fs::write(step.join("model.safetensors"), b"abc"))?;

    assert_eq!(step, path.join("step-00001200"));
    assert_eq!(names(&step)?, ["manifest.json", "model.safetensors"]);
    let manifest = verify(&step)?;
    assert_eq!(manifest.clone(), expected.with_files(manifest.files.clone()));
    let json: serde_json::Value = serde_json::from_slice(&fs::read(step.join("manifest.json"))?)?;
    assert_eq!(
        json,
        serde_json::json!({
            "format_version": 1, "stage": "sft", "step": 1200, "tokens_seen": 921_600, "seed": 41, "complete": true,
            "config_hash": "", "data_fingerprint": "",
            "parent": { "path": "checkpoints/tiny/teacher", "hash": content_hash(b"parent") }, "teacher": null,
            "files": { "model.safetensors": { "bytes": 3, "blake3": content_hash(b"abc") } },
        })
    );
    Ok(())
}

#[test]
fn the_newest_are_kept_and_never_fewer_than_two() -> Result<(), Box<dyn Error>> {
    for (keep, expected) in [(0, ["400", "500"].as_slice()), (1, &["400", "500"]), (3, &["300", "400", "500"])] {
        let directory = tempfile::tempdir()?;
        let run = RunDirectory::create(directory.path())?.keep(keep);
        for step in [100, 200, 300, 400, 500] {
            save(&run, step)?;
        }
        let expected: Vec<_> = expected.iter().map(|step| format!("step-00000{step}")).collect();
        assert_eq!(names(directory.path())?, expected, "keep {keep}");
    }
    Ok(())
}

#[test]
fn saving_before_later_checkpoints_removes_neither() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let run = RunDirectory::create(directory.path())?;
    for step in [200, 300, 150] {
        save(&run, step)?;
    }
    assert_eq!(names(directory.path())?, ["step-00000150", "step-00000200", "step-00000300"]);
    Ok(())
}

#[test]
fn a_directory_with_a_run_is_refused_and_untouched() -> Result<(), Box<dyn Error>> {
    for held in ["config.toml", "metrics.jsonl", "manifest.json", "step-00000007/model.safetensors"] {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join(held);
        fs::create_dir_all(file.parent().ok_or("no parent")?)?;
        fs::write(&file, "theirs")?;
        let Err(error) = RunDirectory::create(directory.path()) else { return Err(held.into()) };
        let found = held.split('/').next().ok_or("empty")?;
        let expected = format!(
            "run directory `{}` already holds a run (`{found}`); hint: go on with --resume, or set --out to another \
             directory",
            directory.path().display()
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(fs::read_to_string(file)?, "theirs");
        assert!(RunDirectory::resume(directory.path()).is_ok(), "{held}");
    }
    Ok(())
}

#[test]
fn resume_makes_the_directory_and_finds_nothing() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let run = RunDirectory::resume(&directory.path().join("a/b"))?;
    let newest = run.newest()?;
    assert!(newest.checkpoint.is_none() && newest.skipped.is_empty());
    Ok(())
}

#[test]
fn files_that_are_not_ours_survive_the_clean_up() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let theirs = ["step-notes.txt", "report.tmp-final", ".trash-can", "run.tmp-12", "step-00000001.tmp-x"];
    for name in theirs.iter().chain(&["step-00000001.tmp-12", ".trash-step-00000001", ".config.toml.tmp-12"]) {
        fs::write(directory.path().join(name), "")?;
    }
    RunDirectory::resume(directory.path())?;
    let mut theirs = theirs.map(str::to_owned);
    theirs.sort();
    assert_eq!(names(directory.path())?, theirs);
    Ok(())
}

#[test]
fn a_failed_or_panicking_writer_leaves_no_trace() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let run = RunDirectory::create(directory.path())?;
    save(&run, 100)?;
    save(&run, 200)?;
    let failed = run.save(header(300), |step| {
        fs::write(step.join("model.safetensors"), weights(300)).map_err(|error| error.to_string())?;
        Err("tensor `lm_head.weight` is not finite".to_owned())
    });
    let Err(CheckpointError::Write { path, cause }) = failed else { return Err("saved".into()) };
    assert_eq!(path, directory.path().join("step-00000300"));
    assert_eq!(cause.to_string(), "tensor `lm_head.weight` is not finite");

    let saving = || run.save(header(300), |_| -> Result<(), String> { panic!("a bug in the writer") });
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(saving)).is_err());
    assert_eq!(names(directory.path())?, ["step-00000100", "step-00000200"]);
    Ok(())
}

#[test]
fn a_directory_in_a_checkpoint_is_refused() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let run = RunDirectory::create(directory.path())?;
    let saved = run.save(header(100), |step| fs::create_dir(step.join("shards")));
    assert!(matches!(saved, Err(CheckpointError::NotAFile { path }) if path.ends_with("shards")));
    assert!(names(directory.path())?.is_empty());
    Ok(())
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("config.toml");
    write_atomically(&path, "first")?;
    write_atomically(&path, "second")?;
    let failed = write_atomically_with(&path, |temporary| {
        fs::write(temporary, "thi").map_err(|error| error.to_string())?;
        Err("stopped".to_owned())
    });
    assert!(matches!(failed, Err(CheckpointError::Write { .. })));
    assert_eq!(fs::read_to_string(&path)?, "second");
    assert_eq!(names(directory.path())?, ["config.toml"]);
    Ok(())
}

#[test]
fn a_file_in_a_directory_that_is_not_there_is_named() -> Result<(), Box<dyn Error>> {
    let Err(error) = write_atomically(Path::new("not/there.toml"), "") else { return Err("written".into()) };
    assert!(error.to_string().starts_with("cannot write `not/there.toml`: "), "{error}");
    Ok(())
}
