//! A tokenizer as metadata, from the files of a Hugging Face directory.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value as Json;

use super::pre_tokenizer::pre_tokenizer_name;
use super::value::Value;
use crate::ExportError;

/// llama.cpp's `llama_token_type`.
#[derive(Clone, Copy)]
pub(crate) enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
}

const HINT: &str = "train the tokenizer with `prepare`, or export the Hugging Face directory alone";

/// The keys of a tokenizer, and where llama.cpp may read texts otherwise.
pub(crate) struct TokenizerMetadata {
    pub(crate) metadata: Vec<(String, Value)>,
    pub(crate) notes: Vec<String>,
}

/// Reads `tokenizer.json` and, if they are there, `tokenizer_config.json`, `chat_template.jinja` and `config.json`.
///
/// The list of tokens gets exactly `vocab_size` entries, as llama.cpp wants: rows of the embedding that no token has
/// become `[PADn]`, which it never produces.
///
/// # Errors
/// A file is missing or not JSON; the tokenizer is no byte-level BPE that llama.cpp knows, has more tokens than the
/// embedding has rows, or no end token (llama.cpp would stop at token 11).
pub(crate) fn tokenizer_metadata(directory: &Path, vocab_size: usize) -> Result<TokenizerMetadata, ExportError> {
    let files = Files::read(directory)?;
    let path = &directory.join("tokenizer.json");
    check_model(path, &files.tokenizer)?;
    let pre = pre_tokenizer_name(path, &files.tokenizer)?;
    let (tokens, types) = tokens(path, &files.tokenizer, vocab_size)?;
    let merges = merges(path, &files.tokenizer)?;
    let ids = special_ids(&directory.join("tokenizer_config.json"), &files, &tokens)?;
    let (add_bos, add_eos) = added_ends(&files);
    let mut metadata = vec![
        ("model", Value::String("gpt2".to_owned())),
        ("pre", Value::String(pre.to_owned())),
        ("tokens", Value::strings(tokens)),
        ("token_type", Value::integers(types.into_iter().map(|kind| kind as i32))),
        ("merges", Value::strings(merges)),
    ];
    metadata.extend(ids);
    metadata.push(("add_bos_token", Value::Bool(add_bos)));
    metadata.push(("add_eos_token", Value::Bool(add_eos)));
    let mut metadata: Vec<_> =
        metadata.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect();
    if let Some(template) = files.chat_template() {
        metadata.push(("tokenizer.chat_template".to_owned(), Value::String(template)));
    }
    Ok(TokenizerMetadata { metadata, notes: notes(&files.tokenizer) })
}

struct Files {
    tokenizer: Json,
    tokenizer_config: Json,
    config: Json,
    template: Option<String>,
}

impl Files {
    fn read(directory: &Path) -> Result<Self, ExportError> {
        let optional = |name: &str| {
            let path = directory.join(name);
            read_optional(&path)?.map(|text| parse(&path, &text)).transpose()
        };
        let path = directory.join("tokenizer.json");
        let text = fs::read_to_string(&path).map_err(ExportError::read(&path))?;
        Ok(Self {
            tokenizer: parse(&path, &text)?,
            tokenizer_config: optional("tokenizer_config.json")?.unwrap_or_default(),
            config: optional("config.json")?.unwrap_or_default(),
            template: read_optional(&directory.join("chat_template.jinja"))?,
        })
    }

    /// The file, else the entry of `tokenizer_config.json`: a text, or a list of named ones, of which `default` counts.
    fn chat_template(&self) -> Option<String> {
        let entry = &self.tokenizer_config["chat_template"];
        let named = || entry.as_array()?.iter().find(|template| template["name"] == "default");
        let text = || entry.as_str().or_else(|| named()?["template"].as_str()).map(str::to_owned);
        self.template.clone().or_else(text)
    }
}

fn read_optional(path: &Path) -> Result<Option<String>, ExportError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(ExportError::read(path)(cause)),
    }
}

fn parse(path: &Path, text: &str) -> Result<Json, ExportError> {
    serde_json::from_str(text).map_err(|cause| ExportError::Json { path: path.to_owned(), cause })
}

/// Refuses models that llama.cpp's byte-level BPE would run otherwise.
fn check_model(path: &Path, tokenizer: &Json) -> Result<(), ExportError> {
    let model = &tokenizer["model"];
    let refuse = |key: &str, value: &Json, rule: &str| {
        Err(ExportError::value(path, key, &value.to_string(), format!("{rule}: only byte-level BPE is exported"), HINT))
    };
    // Files of before 2021 have no type; their model has merges all the same.
    if model["type"] != "BPE" && !(model["type"].is_null() && model["merges"].is_array()) {
        return refuse("model.type", &model["type"], "must be `BPE`");
    }
    if model["byte_fallback"] == true {
        return refuse("model.byte_fallback", &model["byte_fallback"], "must be `false`");
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[key].as_str().is_some_and(|text| !text.is_empty()) {
            return refuse(&format!("model.{key}"), &model[key], "must be empty");
        }
    }
    if tokenizer["decoder"]["type"] != "ByteLevel" {
        return refuse("decoder.type", &tokenizer["decoder"]["type"], "must be `ByteLevel`");
    }
    let normalizer = &tokenizer["normalizer"];
    if !normalizer.is_null() && normalizer["type"] != "NFC" {
        return refuse("normalizer", normalizer, "must be null or NFC");
    }
    Ok(())
}

/// Texts and types of all tokens, by id.
fn tokens(path: &Path, tokenizer: &Json, vocab_size: usize) -> Result<(Vec<String>, Vec<TokenType>), ExportError> {
    let vocabulary = tokenizer["model"]["vocab"].as_object();
    let Some(vocabulary) = vocabulary.filter(|vocabulary| !vocabulary.is_empty()) else {
        return Err(ExportError::value(path, "model.vocab", "missing", "must be an object of tokens", HINT));
    };
    let mut tokens: Vec<String> = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
    let mut types = vec![TokenType::Unused; vocab_size];
    let mut set = |text: &str, id: &Json, kind: TokenType| {
        let index = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|id| *id < vocab_size);
        let Some(index) = index else {
            let rule = format!("must be below the model's vocab_size = `{vocab_size}`");
            let hint = "export with the tokenizer that the model was trained with";
            return Err(ExportError::value(path, &format!("id of token `{text}`"), &id.to_string(), rule, hint));
        };
        tokens[index] = text.to_owned();
        types[index] = kind;
        Ok(())
    };
    for (text, id) in vocabulary {
        set(text, id, TokenType::Normal)?;
    }
    for token in tokenizer["added_tokens"].as_array().into_iter().flatten() {
        let kind = if token["special"] == true { TokenType::Control } else { TokenType::UserDefined };
        set(token["content"].as_str().unwrap_or_default(), &token["id"], kind)?;
    }
    Ok((tokens, types))
}

/// The merges as "left right", whichever of the two ways `tokenizer.json` has them.
fn merges(path: &Path, tokenizer: &Json) -> Result<Vec<String>, ExportError> {
    let list = tokenizer["model"]["merges"].as_array();
    let list = list.ok_or_else(|| ExportError::value(path, "model.merges", "missing", "must be a list", HINT))?;
    let merges = list.iter().map(|merge| {
        let merge_text = match merge.as_array().map(Vec::as_slice) {
            Some([left, right]) => left.as_str().zip(right.as_str()).map(|(left, right)| format!("{left} {right}")),
            _ => merge.as_str().map(str::to_owned),
        };
        // Byte-level texts have no space of their own: it is `Ġ` there.
        merge_text.filter(|text| text.matches(' ').count() == 1).ok_or_else(|| {
            ExportError::value(path, "model.merges", &merge.to_string(), "must be two tokens without spaces", HINT)
        })
    });
    merges.collect()
}

/// Ids of the special tokens, from their texts in `tokenizer_config.json`, else from `config.json`.
///
/// # Source
/// `SpecialVocab` of llama.cpp's `gguf-py/gguf/vocab.py`, which looks in the same order.
fn special_ids(path: &Path, files: &Files, tokens: &[String]) -> Result<Vec<(&'static str, Value)>, ExportError> {
    let mut ids = Vec::new();
    for (name, key) in [
        ("bos_token", "bos_token_id"),
        ("eos_token", "eos_token_id"),
        ("unk_token", "unknown_token_id"),
        ("pad_token", "padding_token_id"),
    ] {
        let entry = &files.tokenizer_config[name];
        let text = entry.as_str().or_else(|| entry["content"].as_str());
        let id = match text {
            Some(text) => Some(tokens.iter().position(|token| token == text).ok_or_else(|| {
                ExportError::value(path, name, text, "must be a token of tokenizer.json", "save the tokenizer again")
            })?),
            None => configured_id(&files.config, name).filter(|id| *id < tokens.len()),
        };
        match id {
            Some(id) => ids.push((key, Value::U32(id as u32))),
            None if name == "eos_token" => {
                let hint = "name the end token there";
                return Err(ExportError::value(path, name, "missing", "must be a token of tokenizer.json", hint));
            }
            None => {}
        }
    }
    Ok(ids)
}

/// `eos_token_id` may be a list there; its first is the one that chat models end a turn with.
fn configured_id(config: &Json, name: &str) -> Option<usize> {
    let id = config.get(format!("{name}_id"))?;
    id.as_u64().or_else(|| id.get(0)?.as_u64()).and_then(|id| usize::try_from(id).ok())
}

/// Whether encoding puts the begin token before and the end token after a text: llama.cpp's defaults depend on `pre`, so
/// both are always written.
fn added_ends(files: &Files) -> (bool, bool) {
    let post_processor = &files.tokenizer["post_processor"];
    let steps = post_processor["processors"].as_array();
    let template = match steps {
        Some(steps) => steps.iter().find(|step| step["type"] == "TemplateProcessing"),
        None => Some(post_processor).filter(|step| step["type"] == "TemplateProcessing"),
    };
    let pieces = template.and_then(|template| template["single"].as_array()).map(Vec::as_slice).unwrap_or_default();
    let is_special = |piece: Option<&Json>| piece.is_some_and(|piece| piece.get("SpecialToken").is_some());
    let flag = |key: &str| files.tokenizer_config[key] == true;
    (is_special(pieces.first()) || flag("add_bos_token"), is_special(pieces.last()) || flag("add_eos_token"))
}

/// What `tokenizer.json` asks for and llama.cpp does not do, although it loads.
fn notes(tokenizer: &Json) -> Vec<String> {
    let mut notes = Vec::new();
    if tokenizer["normalizer"]["type"] == "NFC" {
        notes.push("llama.cpp does not normalize texts to NFC: those that are not get other tokens there".to_owned());
    }
    for token in tokenizer["added_tokens"].as_array().into_iter().flatten() {
        for property in ["lstrip", "rstrip", "single_word"] {
            if token[property] == true {
                let text = &token["content"];
                notes.push(format!(
                    "llama.cpp ignores {property} of token {text}: texts around it get other tokens there"
                ));
            }
        }
    }
    notes
}
