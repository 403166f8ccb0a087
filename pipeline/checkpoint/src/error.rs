//! Why a run directory was refused, a checkpoint not written, or not believed.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a run directory was refused, a checkpoint not written, or not believed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The device or the quota is full.
    #[error(
        "cannot {action} `{}`: {cause}; hint: free space, or set --out to another device; what was complete is untouched",
        path.display()
    )]
    StorageFull {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the writer said.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The caller's part of a save failed.
    #[error("cannot write `{}`: {cause}; hint: what was complete is untouched", path.display())]
    Write {
        /// The checkpoint or file that was not written.
        path: PathBuf,
        /// What the writer said.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// Another process has the run open.
    #[error(
        "run directory `{}` is in use by process `{process}`; hint: wait until it ends, or set --out to another directory",
        path.display()
    )]
    Locked {
        /// The run.
        path: PathBuf,
        /// Its number, as it wrote it into the lock.
        process: String,
    },
    /// A new run was to start where there is one.
    #[error(
        "run directory `{}` already holds a run (`{found}`); hint: go on with --resume, or set --out to another directory",
        path.display()
    )]
    AlreadyRun {
        /// The run.
        path: PathBuf,
        /// What told so.
        found: String,
    },
    /// A path that does not exist.
    #[error("`{}` does not exist; hint: give a step directory, a run directory, a model directory or a .gguf file", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// A path that holds no model.
    #[error(
        "`{}` is no .gguf file and holds neither `config.json` with `model.safetensors` (or its index) nor a `step-*` \
         directory; hint: give a step directory, a run directory with a finished save, a model directory, or a .gguf file",
        path.display()
    )]
    NotAModel {
        /// The path.
        path: PathBuf,
    },
    /// A run without a checkpoint that verifies.
    #[error("run directory `{}` has no checkpoint that verifies: {reasons}; hint: run the stage again", path.display())]
    NoneValid {
        /// The run.
        path: PathBuf,
        /// Why each was passed over.
        reasons: String,
    },
    /// A step directory without its manifest.
    #[error(
        "`{}` is missing, so `{}` cannot be verified; hint: use an earlier step, \
         or copy the directory to a name other than `step-*` to use its model unverified",
        path.display(), path.parent().unwrap_or(path).display()
    )]
    ManifestMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A manifest that does not parse.
    #[error("`{}` is not a manifest: {cause}; hint: use an earlier step", path.display())]
    ManifestInvalid {
        /// The manifest.
        path: PathBuf,
        /// What the parser said.
        cause: serde_json::Error,
    },
    /// A manifest of another version of the format.
    #[error(
        "`{}` has format_version `{found}`, must be `{supported}`; hint: use the release of limbeck that wrote it",
        path.display()
    )]
    FormatVersion {
        /// The manifest.
        path: PathBuf,
        /// In the manifest.
        found: u32,
        /// What this build reads.
        supported: u32,
    },
    /// A manifest of another step than its directory's name says.
    #[error("`{}` has step `{found}`, must be the `{expected}` of its directory's name; hint: rename it back", path.display())]
    StepMismatch {
        /// The manifest.
        path: PathBuf,
        /// In the manifest.
        found: u64,
        /// In the directory's name.
        expected: u64,
    },
    /// A manifest that names a file outside of its directory.
    #[error("`{}` lists file `{name}`, must be a file name without directories; hint: use an earlier step", path.display())]
    FileName {
        /// The manifest.
        path: PathBuf,
        /// The entry.
        name: String,
    },
    /// A file of the manifest that is gone.
    #[error("`{}` is missing but listed in `manifest.json`; hint: restore it or use an earlier step", path.display())]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// A file that has grown or shrunk.
    #[error(
        "`{}` has `{found}` bytes, must have the `{expected}` of `manifest.json`; hint: restore it or use an earlier step",
        path.display()
    )]
    FileSize {
        /// The file.
        path: PathBuf,
        /// Bytes on disk.
        found: u64,
        /// Bytes in the manifest.
        expected: u64,
    },
    /// A file whose bytes have changed.
    #[error(
        "`{}` has BLAKE3 hash `{found}`, must have the `{expected}` of `manifest.json`; \
         hint: restore it or use an earlier step",
        path.display()
    )]
    FileHash {
        /// The file.
        path: PathBuf,
        /// Hash of the bytes on disk.
        found: String,
        /// Hash in the manifest.
        expected: String,
    },
    /// A step directory with something else than files, or with a name that is not Unicode.
    #[error("`{}` is in a checkpoint, must be a regular file with a Unicode name; hint: keep checkpoints flat", path.display())]
    NotAFile {
        /// The entry.
        path: PathBuf,
    },
}

impl CheckpointError {
    /// For `map_err`: the system's error with what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| {
            let path = path.to_owned();
            match is_full(&cause) {
                true => Self::StorageFull { action, path, cause: cause.into() },
                false => Self::Io { action, path, cause },
            }
        }
    }

    /// For `map_err`: the error of a caller who wrote `path`.
    pub(crate) fn write<E: Into<Box<dyn Error + Send + Sync>>>(path: &Path) -> impl FnOnce(E) -> Self {
        move |cause| {
            let (path, cause) = (path.to_owned(), cause.into());
            match chain_is_full(cause.as_ref()) {
                true => Self::StorageFull { action: "write", path, cause },
                false => Self::Write { path, cause },
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn chain_is_full(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(is_full) || error.source().is_some_and(chain_is_full)
}
