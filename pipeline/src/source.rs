//! Models and tokenizers that a config or a command names by path.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use burn::tensor::Device;
use limbeck_checkpoint::{MANIFEST_FILE, Parent, Resolved, is_gguf, resolve};
use limbeck_data::Tokenizer;
use limbeck_export::{read_gguf, read_gguf_tokenizer};
use limbeck_model::{Transformer, load_directory, load_parameters};
use limbeck_train::say;

use crate::failure::Failure;

/// A model with its tokenizer.
pub struct Source {
    /// The model directory, or the GGUF file.
    pub path: PathBuf,
    /// The model.
    pub model: Transformer,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What a checkpoint made from it says of it.
    pub parent: Parent,
}

impl Source {
    /// What a server calls it: the name of the GGUF file, of the directory, or of a step's run directory.
    pub fn name(&self) -> String {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let is_step = path.join(MANIFEST_FILE).is_file();
        let named = if is_step { path.parent().unwrap_or(&path) } else { &path };
        let name = if path.is_file() { named.file_stem() } else { named.file_name() };
        name.map_or_else(|| "limbeck".to_owned(), |name| name.to_string_lossy().into_owned())
    }

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

/// Loads a step directory, a run directory's newest valid step, a Hugging Face directory, or a GGUF file. `key` is what
/// named it. A model that was trained on the grid of an export has its weights there.
///
/// # Errors
/// If nothing valid is there, or its tokenizer has more entries than the model has rows.
pub fn open(key: &str, path: &Path, device: &Device) -> Result<Source, Failure> {
    let source = open_masters(key, path, device)?;
    let on_grid = source.model.on_grid().with_context(|| format!("{key} is `{}`", path.display()));
    Ok(Source { model: on_grid.map_err(Failure::usage)?, ..source })
}

/// [`open`], for what trains on or exports: a model that was trained on the grid of an export has the masters of its
/// weights.
///
/// # Errors
/// As [`open`].
pub fn open_masters(key: &str, path: &Path, device: &Device) -> Result<Source, Failure> {
    let load = || -> anyhow::Result<Source> {
        let path = found(path)?;
        let tokenizer = tokenizer_at(&path)?;
        let model = model_at(&path, device)?;
        let (entries, rows) = (tokenizer.vocab_size(), model.config().vocab_size);
        if entries > rows {
            return Err(anyhow!(
                "`{}`: its tokenizer has `{entries}` entries, must be at most the model's vocab_size = `{rows}`; hint: \
                 the tokenizer belongs to another model",
                path.display()
            ));
        }
        Ok(Source { parent: Parent::of(&path)?, path, model, tokenizer })
    };
    load().with_context(|| format!("{key} is `{}`", path.display())).map_err(Failure::usage)
}

/// Loads a `tokenizer.json`, that of a directory, or that of anything that [`open`] takes. `key` is what named it.
///
/// # Errors
/// If there is none, or it cannot be read.
pub fn tokenizer(key: &str, path: &Path) -> Result<Tokenizer, Failure> {
    let load = || -> anyhow::Result<Tokenizer> {
        if is_gguf(path) || (path.is_dir() && !path.join("tokenizer.json").exists()) {
            tokenizer_at(&found(path)?)
        } else {
            Ok(Tokenizer::load(path)?)
        }
    };
    load().with_context(|| format!("{key} is `{}`", path.display())).map_err(Failure::usage)
}

/// Where the model is; says on stderr what was passed over.
fn found(path: &Path) -> anyhow::Result<PathBuf> {
    let Resolved { path, skipped, .. } = resolve(path)?;
    for skipped in &skipped {
        say!("warning: {skipped}");
    }
    Ok(path)
}

fn tokenizer_at(path: &Path) -> anyhow::Result<Tokenizer> {
    Ok(if is_gguf(path) { read_gguf_tokenizer(path)? } else { Tokenizer::from_directory(path)? })
}

/// The model of a directory or a GGUF file.
///
/// # Errors
/// If a file is missing or malformed, or the decoder cannot run it.
pub fn model_at(path: &Path, device: &Device) -> anyhow::Result<Transformer> {
    if !is_gguf(path) {
        return Ok(load_directory(path, device)?);
    }
    let (config, tensors) = read_gguf(path)?;
    Ok(load_parameters(Transformer::zeros(&config, device), tensors)?)
}
