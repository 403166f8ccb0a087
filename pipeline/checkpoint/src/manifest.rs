//! `manifest.json`: what a checkpoint is and the hashes of its files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::CheckpointError;

/// Version of the format that this build writes and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Name of the manifest in a step directory.
pub const MANIFEST_FILE: &str = "manifest.json";

/// Weights in one file.
pub(crate) const WEIGHTS_FILE: &str = "model.safetensors";

/// Which of several files has which weights.
pub(crate) const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// A model that a run was made from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Parent {
    /// The directory or GGUF file, as the run's config or command line gave it.
    pub path: String,
    /// BLAKE3 of its `manifest.json`, which holds the hashes of the rest; without one, of its `model.safetensors`, of the names and hashes of several such files, or of the GGUF file.
    pub hash: String,
}

impl Parent {
    /// The model directory or file at `path`, hashed: its manifest, else its weights.
    ///
    /// # Errors
    /// None of these can be read.
    pub fn of(path: &Path) -> Result<Self, CheckpointError> {
        let [manifest, whole, index] = [MANIFEST_FILE, WEIGHTS_FILE, WEIGHTS_INDEX].map(|name| path.join(name));
        let hash = if path.is_file() {
            FileEntry::of(path)?.blake3
        } else if manifest.is_file() {
            FileEntry::of(&manifest)?.blake3
        } else if whole.is_file() || !index.is_file() {
            FileEntry::of(&whole)?.blake3
        } else {
            hash_of_shards(path)?
        };
        Ok(Self { path: path.display().to_string(), hash })
    }
}

/// Of the names and hashes of a directory's safetensors files, by name.
fn hash_of_shards(directory: &Path) -> Result<String, CheckpointError> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(CheckpointError::io("list", directory))? {
        let path = entry.map_err(CheckpointError::io("list", directory))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(name, FileEntry::of(&path)?.blake3);
        }
    }
    let list: String = files.iter().map(|(name, hash)| format!("{hash} {name}\n")).collect();
    Ok(content_hash(list.as_bytes()))
}

/// Size and content of a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FileEntry {
    /// Size.
    pub bytes: u64,
    /// BLAKE3, 64 lower-case hexadecimal digits.
    pub blake3: String,
}

impl FileEntry {
    /// Reads the whole file.
    pub(crate) fn of(path: &Path) -> Result<Self, CheckpointError> {
        let mut hasher = blake3::Hasher::new();
        let file = File::open(path).map_err(CheckpointError::io("open", path))?;
        hasher.update_reader(file).map_err(CheckpointError::io("read", path))?;
        Ok(Self { bytes: hasher.count(), blake3: hasher.finalize().to_hex().to_string() })
    }
}

/// What the caller of [`RunDirectory::save`](crate::RunDirectory::save) knows: [`Manifest`] without its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestHeader {
    /// See [`Manifest::stage`].
    pub stage: String,
    /// See [`Manifest::step`].
    pub step: u64,
    /// See [`Manifest::tokens_seen`].
    pub tokens_seen: u64,
    /// See [`Manifest::seed`].
    pub seed: u64,
    /// See [`Manifest::complete`].
    pub complete: bool,
    /// See [`Manifest::config_hash`].
    pub config_hash: String,
    /// See [`Manifest::data_fingerprint`].
    pub data_fingerprint: String,
    /// See [`Manifest::parent`].
    pub parent: Option<Parent>,
    /// See [`Manifest::teacher`].
    pub teacher: Option<Parent>,
}

impl ManifestHeader {
    pub(crate) fn with_files(self, files: BTreeMap<String, FileEntry>) -> Manifest {
        let Self { stage, step, tokens_seen, seed, complete, config_hash, data_fingerprint, parent, teacher } = self;
        Manifest {
            format_version: FORMAT_VERSION,
            stage,
            step,
            tokens_seen,
            seed,
            complete,
            config_hash,
            data_fingerprint,
            parent,
            teacher,
            files,
        }
    }
}

/// `manifest.json`. It holds no time and no machine, so a resumed run writes the same bytes as an uninterrupted one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The stage that wrote it, such as `pretrain`.
    pub stage: String,
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens that were trained on, padding included.
    pub tokens_seen: u64,
    /// The run's seed; with `step` it is the whole state of everything random and of the data order.
    pub seed: u64,
    /// Whether this is the run's last step.
    pub complete: bool,
    /// Hash of the resolved config.
    pub config_hash: String,
    /// Fingerprint of the tokenised data and its order.
    pub data_fingerprint: String,
    /// Where the weights came from before step 0; `None` when they were random.
    pub parent: Option<Parent>,
    /// Whose logits were learned from.
    pub teacher: Option<Parent>,
    /// Every file of the checkpoint but the manifest, by name.
    pub files: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// Reads the manifest of a step directory and looks at its own claims, not at the files.
    ///
    /// # Errors
    /// There is none, or it does not parse, is of another version, or names a file elsewhere.
    pub fn read(directory: &Path) -> Result<Self, CheckpointError> {
        let path = directory.join(MANIFEST_FILE);
        let bytes = fs::read(&path).map_err(|cause| match cause.kind() {
            ErrorKind::NotFound => CheckpointError::ManifestMissing { path: path.clone() },
            _ => CheckpointError::io("read", &path)(cause),
        })?;
        check_version(&path, &bytes)?;
        let manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|cause| CheckpointError::ManifestInvalid { path: path.clone(), cause })?;
        match manifest.files.keys().find(|name| !is_plain_file_name(name)) {
            Some(name) => Err(CheckpointError::FileName { path, name: name.clone() }),
            None => Ok(manifest),
        }
    }

    /// The bytes of `manifest.json`.
    pub(crate) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, CheckpointError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(CheckpointError::write(path))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Before the rest is parsed: another version has other keys, and its number says more than the first missing one.
fn check_version(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let path = path.to_owned();
    match serde_json::from_slice(bytes) {
        Ok(Version { format_version: FORMAT_VERSION }) => Ok(()),
        Ok(Version { format_version: found }) => {
            Err(CheckpointError::FormatVersion { path, found, supported: FORMAT_VERSION })
        }
        Err(cause) => Err(CheckpointError::ManifestInvalid { path, cause }),
    }
}

/// A manifest comes from outside: `../../etc/passwd` in it is not followed.
fn is_plain_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
}

/// BLAKE3 of `bytes`, 64 lower-case hexadecimal digits: for [`ManifestHeader::config_hash`].
pub fn content_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
