//! Files and directories that appear under their name when they are complete, or not at all.
//!
//! A rename is atomic; that the data is on the disk before the new name is, and the name before we go on, takes an
//! `fsync` of the file and of the directory (Pillai et al. 2014, "All File Systems Are Not Created Equal", OSDI).

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::CheckpointError;
use crate::crash::{self, Point};

/// Writes `contents` to `path`: readers see the old file or the new one, never a part.
///
/// # Errors
/// The file system refuses; `path` is as it was.
pub fn write_atomically(path: &Path, contents: impl AsRef<[u8]>) -> Result<(), CheckpointError> {
    write_atomically_with(path, |temporary| fs::write(temporary, contents))
}

/// Lets `write` make the file at the path that it is given, and moves it to `path` when it succeeds.
///
/// # Errors
/// `write` fails or the file system refuses; `path` is as it was.
pub fn write_atomically_with<E>(path: &Path, write: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), CheckpointError>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = Temporary::new(path.with_file_name(temporary_name(&format!(".{name}"))))?;
    write(temporary.path()).map_err(CheckpointError::write(path))?;
    sync_file(temporary.path())?;
    temporary.rename(path)?;
    sync_directory(parent(path))
}

/// `name` with the ending that marks what a process has not finished.
pub(crate) fn temporary_name(name: &str) -> String {
    format!("{name}.tmp-{}", std::process::id())
}

/// Something unfinished, which goes away with this value unless it was renamed: on errors and on panics.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
    renamed: bool,
}

impl Temporary {
    /// Makes room at `path`: a dead process of the same number may have left something.
    pub(crate) fn new(path: PathBuf) -> Result<Self, CheckpointError> {
        remove(&path)?;
        Ok(Self { path, renamed: false })
    }

    /// Makes an empty directory.
    pub(crate) fn directory(path: PathBuf) -> Result<Self, CheckpointError> {
        let temporary = Self::new(path)?;
        fs::create_dir(temporary.path()).map_err(CheckpointError::io("create", temporary.path()))?;
        Ok(temporary)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The last act: the content must be on the disk.
    pub(crate) fn rename(mut self, to: &Path) -> Result<(), CheckpointError> {
        fs::rename(&self.path, to).map_err(CheckpointError::io("rename a temporary to", to))?;
        self.renamed = true;
        crash::reached(Point::Renamed);
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // The error on its way to the caller says more; what stays is removed when the run is next opened.
            let _ = remove(&self.path);
        }
    }
}

/// Removes a file or a directory with all that is in it, if it is there.
///
/// # Errors
/// If it cannot be removed.
pub fn remove(path: &Path) -> Result<(), CheckpointError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(cause) => Err(cause),
    };
    match removed {
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(()),
        result => result.map_err(CheckpointError::io("remove", path)),
    }
}

/// Waits until the content of a file is on the disk. A full device may say so only here.
pub(crate) fn sync_file(path: &Path) -> Result<(), CheckpointError> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(CheckpointError::io("open", path))?;
    file.sync_all().map_err(CheckpointError::io("write", path))
}

/// Waits until the names in a directory are on the disk. Only Unix opens directories.
pub(crate) fn sync_directory(path: &Path) -> Result<(), CheckpointError> {
    if cfg!(unix) {
        let directory = File::open(path).map_err(CheckpointError::io("open", path))?;
        directory.sync_all().map_err(CheckpointError::io("write", path))?;
    }
    Ok(())
}

/// The directory of `path`, which for a bare name is the working directory.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
