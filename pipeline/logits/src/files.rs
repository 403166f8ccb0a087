//! Files that appear under their name when they are complete, or not at all; a lock that dies with its process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::LogitsError;

/// What the name of an unfinished file has before the process's number.
const UNFINISHED: &str = ".tmp-";

/// Writes `bytes` to `path`: readers see the old file or the new one, never a part of it. Until then it is called
/// `.{stem}.tmp-{process}`, and other tools pass over it, since the name begins with a dot.
pub(crate) fn write_atomically(path: &Path, stem: &str, bytes: &[u8]) -> Result<(), LogitsError> {
    let temporary = path.with_file_name(format!(".{stem}{UNFINISHED}{}", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    if let Err(source) = written {
        // The error says more than that what was left cannot be removed.
        let _ = fs::remove_file(&temporary);
        return Err(LogitsError::io("write", &temporary)(source));
    }
    fs::rename(&temporary, path).map_err(LogitsError::io("rename a temporary file to", path))?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// The stem of a name that [`write_atomically`] gives a file before it is complete.
pub(crate) fn unfinished_stem(name: &str) -> Option<&str> {
    name.strip_prefix('.')?.split_once(UNFINISHED).map(|(stem, _)| stem)
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> Result<(), LogitsError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(LogitsError::io("remove", path)(source)),
        _ => Ok(()),
    }
}

/// Creates a directory and those above it.
pub(crate) fn create_directory(path: &Path) -> Result<(), LogitsError> {
    fs::create_dir_all(path).map_err(LogitsError::io("create", path))
}

/// Waits until the names in a directory are on the device. Only Unix opens directories.
fn sync_directory(path: &Path) -> Result<(), LogitsError> {
    if cfg!(unix) {
        let directory = File::open(path).map_err(LogitsError::io("open", path))?;
        directory.sync_all().map_err(LogitsError::io("write", path))?;
    }
    Ok(())
}

/// A lock of the operating system's: it goes with its process, however that ends. The file goes with this value.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    /// Holds the lock while it is open.
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`; `None` where another process has it.
    pub(crate) fn take(path: PathBuf) -> Result<Option<Lock>, LogitsError> {
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(LogitsError::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { path, _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(LogitsError::io("lock", &path)(source)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // What cannot be removed is taken over by the next process.
        let _ = fs::remove_file(&self.path);
    }
}
