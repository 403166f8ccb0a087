//! Weights in one file, or in several with an index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::error::ModelError;
use crate::weights::{FileTensors, load_with_words};

/// `model.safetensors.index.json`, as transformers writes it beside weights of more than one file.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// The weights of a directory: `model.safetensors`, else the files of `model.safetensors.index.json`.
///
/// # Errors
/// If a file is missing or malformed, or the index names a file elsewhere or a tensor that its file lacks.
pub(crate) fn load_weights(directory: &Path) -> Result<FileTensors, ModelError> {
    let whole = directory.join("model.safetensors");
    let path = directory.join("model.safetensors.index.json");
    if whole.exists() || !path.exists() {
        return load_with_words(&whole);
    }
    let bytes = std::fs::read(&path).map_err(|source| ModelError::Io { path: path.clone(), source })?;
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|source| ModelError::Json { path: path.clone(), source })?;
    for (name, file) in &index.weight_map {
        // A name alone: an index from elsewhere must not reach other directories.
        if file.contains(['/', '\\']) || !file.ends_with(".safetensors") {
            return Err(ModelError::ShardName { path, name: name.clone(), file: file.clone() });
        }
    }
    let mut tensors = FileTensors::default();
    for file in index.weight_map.values().collect::<BTreeSet<_>>() {
        let shard = load_with_words(&directory.join(file))?;
        let missing = index.weight_map.iter().find(|(name, place)| *place == file && !shard.contains(name));
        if let Some((name, _)) = missing {
            return Err(ModelError::Shard { path, name: name.clone(), file: file.clone() });
        }
        tensors.extend(shard);
    }
    Ok(tensors)
}
