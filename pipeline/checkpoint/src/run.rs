//! One process writes a run at a time, and writes checkpoints whole.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::CheckpointError;
use crate::atomic::{Temporary, remove, sync_directory, sync_file, temporary_name};
use crate::crash::{self, Point};
use crate::find::{self, Newest, step_name};
use crate::manifest::{FileEntry, MANIFEST_FILE, ManifestHeader};
use crate::retention;

/// The file whose lock keeps a second process out. It stays: deleting it would let two processes lock two files.
const LOCK_FILE: &str = ".lock";

/// A run directory that is ours until this value is dropped or the process dies.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    keep: usize,
    /// Holds the operating system's lock.
    pub(crate) lock: File,
}

impl Drop for RunDirectory {
    /// Closing the file would not do: a child that is being started holds a copy of every open file until it is another
    /// program, and the lock with it.
    fn drop(&mut self) {
        // A process that ends gives its locks up, so nothing is lost where this fails.
        let _ = self.lock.unlock();
    }
}

impl RunDirectory {
    /// Starts a run at `path`, which is made when absent.
    ///
    /// # Errors
    /// The directory holds a run (`config.toml`, `metrics.jsonl`, `step-*`) or is a checkpoint, or another process has
    /// it open.
    pub fn create(path: &Path) -> Result<Self, CheckpointError> {
        let run = Self::lock(path)?;
        match run.holds()? {
            Some(found) => Err(CheckpointError::AlreadyRun { path: path.to_owned(), found }),
            None => Ok(run),
        }
    }

    /// Opens the run at `path` to go on with it; makes the directory when absent. What a dead process left half done
    /// is removed.
    ///
    /// # Errors
    /// Another process has it open, or the file system refuses.
    pub fn resume(path: &Path) -> Result<Self, CheckpointError> {
        let run = Self::lock(path)?;
        retention::clear_leftovers(&run.path)?;
        Ok(run)
    }

    /// Keeps the newest `checkpoints` on the disk, at least and by default 2: one damaged file must not end a run.
    pub fn keep(mut self, checkpoints: usize) -> Self {
        self.keep = checkpoints.max(2);
        self
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest checkpoint that verifies, and the newer ones that do not.
    ///
    /// # Errors
    /// The directory cannot be listed. A damaged checkpoint is no error here.
    pub fn newest(&self) -> Result<Newest, CheckpointError> {
        find::newest(&self.path)
    }

    /// Makes the checkpoint `step-<header.step>`: `write` puts files into the directory that it is given; they are
    /// hashed, listed in the manifest, and the directory gets its name. A checkpoint of the same step, which is there
    /// when the run goes on from before it, is replaced. Then the oldest are removed, see [`keep`](Self::keep).
    /// Returns the step directory.
    ///
    /// # Errors
    /// `write` fails, the device is full, ...: the files are removed and what was complete is untouched.
    pub fn save<E>(
        &self,
        header: ManifestHeader,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, CheckpointError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let step = header.step;
        let target = self.path.join(step_name(step));
        let temporary = Temporary::directory(self.path.join(temporary_name(&step_name(step))))?;
        crash::reached(Point::Created);
        write(temporary.path()).map_err(CheckpointError::write(&target))?;
        crash::reached(Point::Written);
        write_manifest(temporary.path(), header)?;
        self.publish(temporary, &target)?;
        retention::apply(&self.path, step, self.keep)?;
        Ok(target)
    }

    /// Gives the complete directory its name. A checkpoint of that name is moved aside first, and back by
    /// [`retention::clear_leftovers`] should we die in between.
    fn publish(&self, temporary: Temporary, target: &Path) -> Result<(), CheckpointError> {
        if !target.exists() {
            temporary.rename(target)?;
            return sync_directory(&self.path);
        }
        let aside = retention::aside(target);
        fs::rename(target, &aside).map_err(CheckpointError::io("move aside", target))?;
        crash::reached(Point::MovedAside);
        if let Err(error) = temporary.rename(target) {
            fs::rename(&aside, target).map_err(CheckpointError::io("move back", target))?;
            return Err(error);
        }
        sync_directory(&self.path)?;
        remove(&aside)
    }

    fn lock(path: &Path) -> Result<Self, CheckpointError> {
        fs::create_dir_all(path).map_err(CheckpointError::io("create", path))?;
        let file = path.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&file)
            .map_err(CheckpointError::io("open", &file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(path, &file)),
            Err(TryLockError::Error(cause)) => return Err(CheckpointError::io("lock", &file)(cause)),
        }
        // For the message that a second process shows; the lock itself needs no content.
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(CheckpointError::io("write", &file))?;
        Ok(Self { path: path.to_owned(), keep: 2, lock })
    }

    /// What tells that there is a run here.
    fn holds(&self) -> Result<Option<String>, CheckpointError> {
        let file = ["config.toml", "metrics.jsonl", MANIFEST_FILE].iter().find(|name| self.path.join(name).exists());
        match file {
            Some(name) => Ok(Some((*name).to_owned())),
            None => Ok(find::steps(&self.path)?.first().map(|(step, _)| step_name(*step))),
        }
    }
}

fn locked(path: &Path, file: &Path) -> CheckpointError {
    let process = fs::read_to_string(file).unwrap_or_default();
    let process = if process.trim().is_empty() { "unknown" } else { process.trim() };
    CheckpointError::Locked { path: path.to_owned(), process: process.to_owned() }
}

/// Hashes what is in `directory` and lists it: the last file that is written. Everything is on the disk on return.
fn write_manifest(directory: &Path, header: ManifestHeader) -> Result<(), CheckpointError> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(CheckpointError::io("list", directory))? {
        let entry = entry.map_err(CheckpointError::io("list", directory))?;
        let path = entry.path();
        let is_file = entry.file_type().map_err(CheckpointError::io("open", &path))?.is_file();
        let name = entry.file_name().into_string().ok().filter(|_| is_file);
        let Some(name) = name else { return Err(CheckpointError::NotAFile { path }) };
        sync_file(&path)?;
        files.insert(name, FileEntry::of(&path)?);
    }
    crash::reached(Point::Hashed);
    let path = directory.join(MANIFEST_FILE);
    let bytes = header.with_files(files).to_bytes(&path)?;
    fs::write(&path, bytes).map_err(CheckpointError::io("write", &path))?;
    sync_file(&path)?;
    crash::reached(Point::ManifestWritten);
    sync_directory(directory)
}
