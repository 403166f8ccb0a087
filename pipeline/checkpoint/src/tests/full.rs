//! A device without space: what was complete stays, and the error says what to do.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::Command;

use super::{header, names, save};
use crate::{CheckpointError, RunDirectory, verify, write_atomically};

const DEVICE: &str = "LIMBECK_TEST_FULL_DEVICE";

/// A writer's own error type, with the system's below it.
#[derive(Debug, thiserror::Error)]
#[error("tensor `model.norm.weight` was not written")]
struct WriterError(#[source] io::Error);

#[test]
fn a_full_device_below_the_writers_error_is_told() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let run = RunDirectory::create(directory.path())?;
    save(&run, 100)?;
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
        let saved = run.save(header(200), |_| Err(WriterError(kind.into())));
        let Err(error @ CheckpointError::StorageFull { .. }) = saved else { return Err(format!("{saved:?}").into()) };
        let expected = format!(
            "cannot write `{}`: tensor `model.norm.weight` was not written; hint: free space, or set --out to another \
             device; what was complete is untouched",
            directory.path().join("step-00000200").display()
        );
        assert_eq!(error.to_string(), expected);
    }
    let saved = run.save(header(200), |_| Err(WriterError(ErrorKind::PermissionDenied.into())));
    assert!(matches!(saved, Err(CheckpointError::Write { .. })), "another cause is not taken for a full device");
    assert_eq!(names(directory.path())?, ["step-00000100"]);
    Ok(())
}

/// Runs [`child_fills_the_device`] on a file system of 256 KiB, in a mount namespace of its own. Where the machine
/// grants none, the test above stands alone.
#[test]
fn a_full_device_leaves_the_earlier_checkpoints() -> Result<(), Box<dyn Error>> {
    let mount = tempfile::tempdir()?;
    let mut child = Command::new("unshare");
    child
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg(r#"mount -t tmpfs -o size=256k tmpfs "$0" || exit 77; exec "$@""#)
        .arg(mount.path())
        .arg(env::current_exe()?)
        .args(["--exact", "tests::full::child_fills_the_device", "--nocapture"])
        .env(DEVICE, mount.path());
    let (status, errors) = match child.output() {
        Ok(output) => (output.status, String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => return no_namespace("`unshare` is not installed"),
        Err(error) => return Err(error.into()),
    };
    match status.code() {
        Some(0) => Ok(()),
        Some(77) => no_namespace(&errors),
        _ if errors.starts_with("unshare:") => no_namespace(&errors),
        _ => Err(errors.into()),
    }
}

fn no_namespace(reason: &str) -> Result<(), Box<dyn Error>> {
    println!("no small file system here: {reason}");
    Ok(())
}

/// The child's work; without its variable there is none.
#[test]
fn child_fills_the_device() -> Result<(), Box<dyn Error>> {
    let Ok(device) = env::var(DEVICE) else { return Ok(()) };
    let run = RunDirectory::create(Path::new(&device))?;
    write_atomically(&run.path().join("config.toml"), "[run]")?;
    let large = |step: &Path| fs::write(step.join("model.safetensors"), [7; 90_000]);
    run.save(header(100), large)?;
    run.save(header(200), large)?;

    let Err(error @ CheckpointError::StorageFull { .. }) = run.save(header(300), large) else {
        return Err("saved on a full device".into());
    };
    let start = format!("cannot write `{device}/step-00000300`: No space left on device");
    assert!(error.to_string().starts_with(&start), "{error}");
    let config = run.path().join("config.toml");
    assert!(matches!(write_atomically(&config, [b' '; 90_000]), Err(CheckpointError::StorageFull { .. })));

    assert_eq!(names(run.path())?, ["config.toml", "step-00000100", "step-00000200"]);
    assert_eq!(fs::read_to_string(config)?, "[run]");
    for step in ["step-00000100", "step-00000200"] {
        verify(&run.path().join(step))?;
    }
    fs::remove_dir_all(run.path().join("step-00000100"))?;
    drop(run);
    RunDirectory::resume(Path::new(&device))?.save(header(300), large)?;
    Ok(())
}
