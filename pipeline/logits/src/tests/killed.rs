//! A child process of this test binary is killed with SIGKILL while it captures; another one goes on.

use std::env;

use limbeck_testing::{Stopped, stop};

use super::*;

const DIRECTORY: &str = "LIMBECK_TEST_CACHE";
const STOP_AT: &str = "LIMBECK_TEST_STOP_AT";

/// The child's work; without its variables there is none. It captures until the part that it is to die in.
#[test]
fn child_captures() -> Outcome {
    let (Ok(directory), Ok(stop_at)) = (env::var(DIRECTORY), env::var(STOP_AT)) else { return Ok(()) };
    let stop_at: u32 = stop_at.parse()?;
    let mut capture = Capture::open(Path::new(&directory), header(RANDOM_SAMPLING)?, Shard::default())?;
    for part in capture.pending() {
        if part >= stop_at {
            // As far as a write can get without being complete.
            fs::write(Path::new(&directory).join(format!("parts/.{part:05}.tmp-{}", std::process::id())), "PAR1")?;
            stop();
        }
        capture_part(&mut capture, part)?;
    }
    Ok(())
}

/// A child that waits in `part`.
fn stopped_at(part: u32, directory: &Path) -> std::io::Result<Stopped> {
    let part = part.to_string();
    let variables = [(DIRECTORY, directory.as_os_str()), (STOP_AT, part.as_ref())];
    Stopped::in_test("tests::killed::child_captures", &variables)
}

#[test]
fn killed_captures_that_go_on_equal_an_uninterrupted_one() -> Outcome {
    let (whole, killed) = (tempfile::tempdir()?, tempfile::tempdir()?);
    capture(whole.path(), RANDOM_SAMPLING)?;
    for part in [0, 1, 5, 7] {
        drop(stopped_at(part, killed.path())?);
        let left = files(killed.path())?;
        let unfinished = left.keys().filter(|name| name.to_string_lossy().contains(".tmp-")).count();
        assert_eq!((unfinished, parts(killed.path())?.len()), (1, part as usize + 1), "{left:?}");
        assert!(matches!(open(killed.path()), Err(LogitsError::MissingParts { .. })));
    }
    let kept = files(killed.path())?;
    capture(killed.path(), RANDOM_SAMPLING)?;
    let found = files(killed.path())?;
    assert_eq!(found, files(whole.path())?);
    let finished = kept.iter().filter(|(name, _)| !name.to_string_lossy().contains("/."));
    assert!(finished.filter(|(name, _)| name.starts_with("parts")).all(|(name, hash)| found.get(name) == Some(hash)));
    Ok(())
}

#[test]
fn damaged_parts_are_written_anew_and_whole_ones_kept() -> Outcome {
    let directory = tempfile::tempdir()?;
    capture(directory.path(), RANDOM_SAMPLING)?;
    let before = files(directory.path())?;
    let path = parts(directory.path())?.remove(4);
    let mut bytes = fs::read(&path)?;
    bytes.truncate(bytes.len() / 2);
    fs::write(&path, bytes)?;
    let capture = Capture::open(directory.path(), header(RANDOM_SAMPLING)?, Shard::default())?;
    assert_eq!((capture.pending(), capture.damaged()), (vec![4], [path].as_slice()));
    drop(capture);
    super::capture(directory.path(), RANDOM_SAMPLING)?;
    assert_eq!(files(directory.path())?, before);
    Ok(())
}
