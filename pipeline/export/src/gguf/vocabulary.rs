//! The tokenizer of a file, as the `tokenizer.json` that it was made from.

use std::collections::BTreeMap;
use std::path::Path;

use limbeck_data::{Tokenizer, TokenizerFiles};
use serde_json::{Map, Value as Json, json};

use super::pre_tokenizer::pre_tokenizer;
use super::read::GgufFile;
use super::tokenizer::TokenType;
use super::value::Value;
use crate::ExportError;

const HINT: &str = "use the Hugging Face directory of the model";

/// Special tokens: the key in a file, and in `tokenizer_config.json`.
const NAMED: [(&str, &str); 4] = [
    ("bos_token_id", "bos_token"),
    ("eos_token_id", "eos_token"),
    ("unknown_token_id", "unk_token"),
    ("padding_token_id", "pad_token"),
];

/// Reads the byte-level BPE of a file: it gives the ids that llama.cpp gives. Texts are not normalized, because llama.cpp
/// normalizes none; Qwen's own files ask for NFC.
///
/// # Errors
/// The file is not there or damaged, has another kind of tokenizer or a pre-tokenizer that is not known, or its lists do not
/// belong together.
pub fn read_gguf_tokenizer(path: &Path) -> Result<Tokenizer, ExportError> {
    let file = GgufFile::open(path)?;
    let keys = Keys { file: &file };
    let model = keys.text("model")?;
    if model != Some("gpt2") {
        let rule = "must be `gpt2`: only byte-level BPE is read";
        return Err(keys.wrong("model", model.unwrap_or("missing"), rule));
    }
    let pre = pre_tokenizer(path, keys.text("pre")?)?;
    let tokens = Tokens::read(&keys)?;
    let mut config = Map::new();
    let mut stop_ids = Vec::new();
    for (key, name) in NAMED {
        if let Some(id) = keys.id(key, &tokens)? {
            config.insert(name.to_owned(), json!(tokens.texts[id]));
            stop_ids.extend((name == "eos_token").then_some(id as u32));
        }
    }
    stop_ids.extend(keys.id("eot_token_id", &tokens)?.map(|id| id as u32));
    let adds_begin = keys.flag("add_bos_token")?.unwrap_or(pre.adds_begin);
    let adds_end = keys.flag("add_eos_token")?.unwrap_or(false);
    config.insert("add_bos_token".to_owned(), json!(adds_begin));
    config.insert("add_eos_token".to_owned(), json!(adds_end));
    let end = |adds: bool, name: &str| config.get(name).and_then(Json::as_str).filter(|_| adds);
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": tokens.added(),
        "normalizer": null,
        "pre_tokenizer": pre.to_json(),
        "post_processor": post_processor(&tokens, end(adds_begin, "bos_token"), end(adds_end, "eos_token")),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": pre.ignores_merges,
            "vocab": tokens.vocabulary(),
            "merges": keys.merges()?,
        },
    });
    let template = match file.metadata.get("tokenizer.chat_template") {
        Some(Value::String(template)) => Some(template.clone()),
        _ => None,
    };
    let files = TokenizerFiles { tokenizer: tokenizer.to_string().into_bytes(), config, template, stop_ids };
    Ok(Tokenizer::from_files(path, files)?)
}

/// The tokens of a file by id.
struct Tokens {
    texts: Vec<String>,
    types: Vec<i64>,
    ids: BTreeMap<String, usize>,
}

impl Tokens {
    fn read(keys: &Keys<'_>) -> Result<Self, ExportError> {
        let texts = keys.texts("tokens")?;
        let types = keys.list("token_type")?;
        let types: Vec<i64> = types.iter().filter_map(Value::as_integer).collect();
        if types.len() != texts.len() {
            let rule = format!("must be `{}` whole numbers, one for each token", texts.len());
            return Err(keys.wrong("token_type", &types.len().to_string(), rule));
        }
        let mut ids = BTreeMap::new();
        // Tokens that are not in use fill up the embedding: no tokenizer has them.
        for (id, text) in texts.iter().enumerate().filter(|(id, _)| types[*id] != TokenType::Unused as i64) {
            if ids.insert(text.clone(), id).is_some() {
                return Err(keys.wrong("tokens", text, "must be there once"));
            }
        }
        Ok(Self { texts, types, ids })
    }

    fn vocabulary(&self) -> Json {
        self.ids.iter().map(|(text, id)| (text.clone(), json!(id))).collect::<Map<_, _>>().into()
    }

    /// Control tokens, which are special, and those of the user, which are found in any text.
    fn added(&self) -> Vec<Json> {
        let special = [TokenType::Unknown, TokenType::Control].map(|kind| kind as i64);
        let added = |(id, text): (usize, &String)| {
            let is_special = special.contains(&self.types[id]);
            (is_special || self.types[id] == TokenType::UserDefined as i64).then(|| {
                json!({
                    "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": is_special,
                })
            })
        };
        self.texts.iter().enumerate().filter_map(added).collect()
    }
}

/// What puts the begin token before and the end token after a text.
fn post_processor(tokens: &Tokens, begin: Option<&str>, end: Option<&str>) -> Json {
    if begin.is_none() && end.is_none() {
        return Json::Null;
    }
    let special = |text: Option<&str>| text.map(|text| json!({ "SpecialToken": { "id": text, "type_id": 0 } }));
    let sequence = |id: &str| {
        let text = json!({ "Sequence": { "id": id, "type_id": 0 } });
        [special(begin), Some(text), special(end)].into_iter().flatten().collect::<Vec<_>>()
    };
    let named = [begin, end]
        .into_iter()
        .flatten()
        .map(|text| (text.to_owned(), json!({ "id": text, "ids": [tokens.ids.get(text)], "tokens": [text] })));
    let pair = [sequence("A"), sequence("B")].concat();
    json!({
        "type": "TemplateProcessing",
        "single": sequence("A"),
        "pair": pair,
        "special_tokens": named.collect::<Map<_, _>>(),
    })
}

/// The keys under `tokenizer.ggml.`
struct Keys<'a> {
    file: &'a GgufFile,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.file.metadata.get(&format!("tokenizer.ggml.{key}"))
    }

    fn wrong(&self, key: &str, value: &str, rule: impl Into<String>) -> ExportError {
        ExportError::value(self.file.path(), &format!("tokenizer.ggml.{key}"), value, rule, HINT)
    }

    fn text(&self, key: &str) -> Result<Option<&str>, ExportError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(self.wrong(key, &value.to_string(), "must be a text")),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, ExportError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(value) => Err(self.wrong(key, &value.to_string(), "must be a boolean")),
        }
    }

    fn list(&self, key: &str) -> Result<&[Value], ExportError> {
        match self.get(key) {
            Some(Value::Array { values, .. }) => Ok(values),
            Some(value) => Err(self.wrong(key, &value.to_string(), "must be a list")),
            None => Err(self.wrong(key, "missing", "must be a list")),
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, ExportError> {
        let text = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.wrong(key, &other.to_string(), "must be a list of texts")),
        };
        self.list(key)?.iter().map(text).collect()
    }

    /// The id of a token that is in use.
    fn id(&self, key: &str, tokens: &Tokens) -> Result<Option<usize>, ExportError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let id = value.as_unsigned().and_then(|id| usize::try_from(id).ok()).filter(|id| *id < tokens.texts.len());
        match id {
            Some(id) => Ok(Some(id).filter(|id| tokens.types[*id] != TokenType::Unused as i64)),
            None => {
                let rule = format!("must be below the number of tokens, `{}`", tokens.texts.len());
                Err(self.wrong(key, &value.to_string(), rule))
            }
        }
    }

    /// Pairs of tokens; "left right" in the file, where the first character belongs to the left one in any case.
    fn merges(&self) -> Result<Vec<[String; 2]>, ExportError> {
        let pair = |merge: String| {
            let first = merge.chars().next().map_or(0, char::len_utf8);
            match merge[first..].split_once(' ') {
                Some((left, right)) => Ok([format!("{}{left}", &merge[..first]), right.to_owned()]),
                None => Err(self.wrong("merges", &merge, "must be two tokens with a space between them")),
            }
        };
        self.texts("merges")?.into_iter().map(pair).collect()
    }
}
