//! Models that a config or a command names by path.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use burn::tensor::Device;
use limbeck_checkpoint::{Parent, resolve};
use limbeck_data::Tokenizer;
use limbeck_model::{Transformer, load_directory};

use crate::failure::Failure;

/// A model with its tokenizer.
pub struct Source {
    /// The model directory.
    pub path: PathBuf,
    /// The model.
    pub model: Transformer,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What a checkpoint made from it says of it.
    pub parent: Parent,
}

impl Source {
    /// Refuses sequences that are longer than the model was made for. `key` is what named it.
    ///
    /// # Errors
    /// If `sequence_length` is over the model's `max_position_embeddings`.
    pub fn check_length(&self, key: &str, sequence_length: usize) -> Result<(), Failure> {
        let longest = self.model.config().max_position_embeddings;
        if sequence_length <= longest {
            return Ok(());
        }
        Err(Failure::usage(anyhow!(
            "data.sequence_length is `{sequence_length}`, must be at most `{longest}`, max_position_embeddings of {key} \
             = `{}`; hint: use `{longest}`, or train a model with longer sequences",
            self.path.display()
        )))
    }
}

/// Loads a step directory, a run directory's newest valid step, or a Hugging Face directory. `key` is what named it.
///
/// # Errors
/// If nothing valid is there, or its tokenizer has more entries than the model has rows.
pub fn open(key: &str, path: &Path, device: &Device) -> Result<Source, Failure> {
    let load = || -> anyhow::Result<Source> {
        let resolved = resolve(path)?;
        for skipped in &resolved.skipped {
            eprintln!("warning: {skipped}");
        }
        let tokenizer = Tokenizer::from_directory(&resolved.path)?;
        let model = load_directory(&resolved.path, device)?;
        let (entries, rows) = (tokenizer.vocab_size(), model.config().vocab_size);
        if entries > rows {
            return Err(anyhow!(
                "`{}`: its tokenizer has `{entries}` entries, must be at most the model's vocab_size = `{rows}`; hint: \
                 the tokenizer belongs to another model",
                resolved.path.display()
            ));
        }
        Ok(Source { parent: Parent::of(&resolved.path)?, path: resolved.path, model, tokenizer })
    };
    load().with_context(|| format!("{key} is `{}`", path.display())).map_err(Failure::usage)
}

/// The tokenizer of what [`open`] opens, without its weights, or of a `tokenizer.json` or a directory that holds one. `key`
/// is what named it.
///
/// # Errors
/// If there is none.
pub fn tokenizer(key: &str, path: &Path) -> Result<Tokenizer, Failure> {
    let load = || -> anyhow::Result<Tokenizer> {
        if path.is_file() || path.join("tokenizer.json").is_file() {
            return Ok(Tokenizer::load(path)?);
        }
        Ok(Tokenizer::from_directory(resolve(path)?.path)?)
    };
    load().with_context(|| format!("{key} is `{}`", path.display())).map_err(Failure::usage)
}
