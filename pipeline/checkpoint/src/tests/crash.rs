//! A child process of this test binary stops at a point of a save and is killed there with SIGKILL.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

use limbeck_testing::{Stopped, stop};

use super::{header, names, run_of, save, weights, write_model};
use crate::crash::Point;
use crate::{CheckpointError, RunDirectory, resolve, verify};

const RUN: &str = "LIMBECK_TEST_RUN";
const STEP: &str = "LIMBECK_TEST_STEP";
const STOP_AT: &str = "LIMBECK_TEST_STOP_AT";
/// Added to the step for the child's bytes, so that they differ from those of a checkpoint that is there.
const CHILD: u64 = 500;

/// What the save calls at every point: the child that is to die here waits for it.
pub(crate) fn reached(point: Point) {
    stop_at(&format!("{point:?}"));
}

fn stop_at(point: &str) {
    if env::var(STOP_AT).is_ok_and(|stop| stop == point) {
        stop();
    }
}

/// The child's work; without its variables there is none.
#[test]
fn child_saves() -> Result<(), Box<dyn Error>> {
    let (Ok(run), Ok(step)) = (env::var(RUN), env::var(STEP)) else { return Ok(()) };
    let step = step.parse()?;
    RunDirectory::resume(Path::new(&run))?.save(header(step), |directory| {
        fs::write(directory.join("generation_config.json"), "{}")?;
        stop_at("BetweenFiles");
        write_model(directory, step + CHILD)
    })?;
    Ok(())
}

/// A child that waits at a point of a save.
fn stopped_at(point: &str, run: &Path, step: u64) -> std::io::Result<Stopped> {
    let step = step.to_string();
    let variables = [(RUN, run.as_os_str()), (STEP, step.as_ref()), (STOP_AT, point.as_ref())];
    Stopped::in_test("tests::crash::child_saves", &variables)
}

fn kill_at(run: &Path, step: u64, point: &str) -> Result<(), Box<dyn Error>> {
    drop(stopped_at(point, run, step)?);
    Ok(())
}

#[test]
fn kill_before_the_rename_leaves_the_earlier_checkpoints() -> Result<(), Box<dyn Error>> {
    for point in ["Created", "BetweenFiles", "Written", "Hashed", "ManifestWritten"] {
        let directory = tempfile::tempdir()?;
        run_of(directory.path(), &[100, 200])?;
        kill_at(directory.path(), 300, point)?;
        assert_eq!(names(directory.path())?.len(), 3, "{point}: the temporary directory is still there");

        let run = RunDirectory::resume(directory.path())?;
        let newest = run.newest()?;
        assert_eq!(newest.checkpoint.map(|found| found.manifest.step), Some(200), "{point}");
        assert!(newest.skipped.is_empty(), "{point}: {:?}", newest.skipped);
        assert_eq!(names(directory.path())?, ["step-00000100", "step-00000200"], "{point}");
        verify(&directory.path().join("step-00000100"))?;
        save(&run, 300)?;
        assert_eq!(resolve(directory.path())?.path, directory.path().join("step-00000300"));
    }
    Ok(())
}

#[test]
fn kill_after_the_rename_leaves_the_new_checkpoint() -> Result<(), Box<dyn Error>> {
    for (point, steps) in [("Renamed", [100, 200, 300].as_slice()), ("Trashed", &[200, 300])] {
        let directory = tempfile::tempdir()?;
        run_of(directory.path(), &[100, 200])?;
        kill_at(directory.path(), 300, point)?;

        let newest = RunDirectory::resume(directory.path())?.newest()?;
        assert_eq!(newest.checkpoint.map(|found| found.manifest.step), Some(300), "{point}");
        assert!(newest.skipped.is_empty(), "{point}: {:?}", newest.skipped);
        let expected: Vec<_> = steps.iter().map(|step| format!("step-{step:08}")).collect();
        assert_eq!(names(directory.path())?, expected, "{point}");
        for step in expected {
            verify(&directory.path().join(step))?;
        }
    }
    Ok(())
}

#[test]
fn kill_while_a_step_is_replaced_leaves_the_old_or_the_new() -> Result<(), Box<dyn Error>> {
    for (point, bytes) in [("ManifestWritten", 200), ("MovedAside", 200), ("Renamed", 200 + CHILD)] {
        let directory = tempfile::tempdir()?;
        run_of(directory.path(), &[200])?;
        kill_at(directory.path(), 200, point)?;

        let run = RunDirectory::resume(directory.path())?;
        assert_eq!(names(directory.path())?, ["step-00000200"], "{point}");
        let found = run.newest()?.checkpoint.ok_or("no checkpoint")?;
        assert_eq!(fs::read(found.path.join("model.safetensors"))?, weights(bytes), "{point}");
    }
    Ok(())
}

#[test]
fn a_child_that_is_being_started_does_not_keep_the_lock() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let run = RunDirectory::create(directory.path())?;
    // What a child has of ours between its fork and its program.
    let copy = run.lock.try_clone()?;
    assert!(matches!(RunDirectory::resume(directory.path()), Err(CheckpointError::Locked { .. })));
    drop(run);
    RunDirectory::resume(directory.path())?;
    drop(copy);
    Ok(())
}

#[test]
fn a_second_process_is_refused_until_the_first_is_dead() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    run_of(directory.path(), &[100])?;
    let stopped = stopped_at("Written", directory.path(), 200)?;

    for opened in [RunDirectory::resume(directory.path()), RunDirectory::create(directory.path())] {
        match opened {
            Err(CheckpointError::Locked { process, .. }) => assert_eq!(process, stopped.id().to_string()),
            other => return Err(format!("opened twice: {other:?}").into()),
        }
    }
    assert_eq!(resolve(directory.path())?.path, directory.path().join("step-00000100"), "reading takes no lock");

    drop(stopped);
    assert_eq!(RunDirectory::resume(directory.path())?.path(), directory.path());
    Ok(())
}
