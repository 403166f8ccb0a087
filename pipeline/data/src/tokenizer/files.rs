//! The files of a tokenizer.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::DataError;

/// What a tokenizer is made of, wherever it is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`; empty where there is none.
    pub config: Map<String, Value>,
    /// `chat_template.jinja`; where there is none, the configuration may have one.
    pub template: Option<String>,
    /// `eos_token_id` of `generation_config.json`: every token that ends a generation.
    pub stop_ids: Vec<u32>,
}

impl TokenizerFiles {
    /// `tokenizer.json` at `path`, and of the others those that are beside it.
    pub(super) fn read(path: &Path) -> Result<TokenizerFiles, DataError> {
        let tokenizer = fs::read(path).map_err(DataError::io("read", path))?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let template_path = directory.join("chat_template.jinja");
        let template = if template_path.exists() {
            Some(fs::read_to_string(&template_path).map_err(DataError::io("read", &template_path))?)
        } else {
            None
        };
        let generation = read_keys(&directory.join("generation_config.json"))?;
        Ok(TokenizerFiles {
            tokenizer,
            config: read_keys(&directory.join("tokenizer_config.json"))?,
            template,
            stop_ids: stop_ids(generation.get("eos_token_id")),
        })
    }
}

/// The object of a JSON file, or no keys where there is none.
fn read_keys(path: &Path) -> Result<Map<String, Value>, DataError> {
    if !path.exists() {
        return Ok(Map::new());
    }
    let bytes = fs::read(path).map_err(DataError::io("read", path))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| DataError::BadTokenizer { path: path.to_path_buf(), reason: error.to_string() })
}

/// One id, or a list of them.
fn stop_ids(ids: Option<&Value>) -> Vec<u32> {
    let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    match ids {
        Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => Vec::new(),
    }
}
