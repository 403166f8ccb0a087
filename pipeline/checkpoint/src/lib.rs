//! Run directories: checkpoints that are complete or not there, found again and verified.
//!
//! A checkpoint is a model directory (`model.safetensors`, `config.json`, tokenizer) with `manifest.json` beside it,
//! written last: step, tokens, seed, what it was made from, and the size and BLAKE3 hash of every file. What is in the
//! model files is not this crate's concern. `checkpoints/README.md` states the format.
//!
//! ```text
//! RunDirectory::save
//!   step-00000200.tmp-4711/ ── caller writes files ── fsync + hash each ── manifest.json ── fsync
//!     └─ rename ─► step-00000200/ ── fsync parent ── oldest: rename ─► .trash-step-… ── delete
//! RunDirectory::newest, resolve
//!   newest step whose manifest parses and whose hashes verify; what was passed over is handed back with its reason
//! ```
//!
//! ```
//! use limbeck_checkpoint::{ManifestHeader, RunDirectory, resolve};
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("teacher");
//! let run = RunDirectory::create(&path)?;
//! let header = ManifestHeader { stage: "pretrain".into(), step: 200, tokens_seen: 51_200, ..Default::default() };
//! run.save(header, |step| std::fs::write(step.join("model.safetensors"), b"weights"))?;
//!
//! let newest = resolve(&path)?;
//! assert_eq!(newest.path, path.join("step-00000200"));
//! assert_eq!(newest.manifest.map(|manifest| manifest.tokens_seen), Some(51_200));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod atomic;
mod crash;
mod error;
mod find;
mod manifest;
mod retention;
mod run;

pub use atomic::{remove, write_atomically, write_atomically_with};
pub use error::CheckpointError;
pub use find::{Checkpoint, Newest, Resolved, Skipped, is_gguf, resolve, verify};
pub use manifest::{FORMAT_VERSION, FileEntry, MANIFEST_FILE, Manifest, ManifestHeader, Parent, content_hash};
pub use run::RunDirectory;

#[cfg(test)]
mod tests;
