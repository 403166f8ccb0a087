//! `tokenizer_config.json`: what transformers reads beside `tokenizer.json`.

use serde_json::{Map, Value, json};

use super::{END_OF_TEXT, END_OF_TURN};

/// Where a caller names no length; transformers takes any number for "unlimited".
const UNLIMITED: usize = 1_000_000_000;

/// The file's keys, those that are not read here included.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenizerConfig(Map<String, Value>);

impl From<Map<String, Value>> for TokenizerConfig {
    fn from(keys: Map<String, Value>) -> Self {
        Self(keys)
    }
}

impl TokenizerConfig {
    /// That of a tokenizer trained here.
    pub(super) fn chat_ml() -> TokenizerConfig {
        let keys = json!({
            "bos_token": null,
            "eos_token": END_OF_TURN,
            "pad_token": END_OF_TEXT,
            "unk_token": null,
            "add_bos_token": false,
            "add_prefix_space": false,
            "split_special_tokens": false,
        });
        TokenizerConfig(keys.as_object().cloned().unwrap_or_default())
    }

    /// A special token's text, given as a string or as an object with `content`.
    pub(super) fn token(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key)?;
        value.as_str().or_else(|| value.get("content")?.as_str())
    }

    /// The same keys for other ids: `added_tokens_decoder` has one a key. Tokens without a new id go.
    pub(super) fn with_ids(&self, id: impl Fn(&str) -> Option<u32>) -> TokenizerConfig {
        let mut keys = self.0.clone();
        if let Some(Value::Object(tokens)) = keys.get_mut("added_tokens_decoder") {
            let renumbered = std::mem::take(tokens).into_iter().filter_map(|(_, token)| {
                let id = id(token.get("content")?.as_str()?)?;
                Some((id.to_string(), token))
            });
            *tokens = renumbered.collect();
        }
        TokenizerConfig(keys)
    }

    /// The template kept in this file: a string, or a list in which one is called `default`.
    pub(super) fn chat_template(&self) -> Option<String> {
        match self.0.get("chat_template")? {
            Value::String(template) => Some(template.clone()),
            Value::Array(named) => named
                .iter()
                .find(|template| template["name"] == "default")
                .and_then(|template| template["template"].as_str())
                .map(str::to_owned),
            _ => None,
        }
    }

    /// What is written: every key as it was, and those that transformers 4 and 5 both need.
    ///
    /// The class is transformers 4's name, which 5 maps; 5's own, `TokenizersBackend`, is an error in 4. The template
    /// is here besides its own file, because transformers.js reads only this one.
    pub(super) fn to_json(&self, chat_template: Option<&str>, model_max_length: Option<usize>) -> Value {
        let mut keys = self.0.clone();
        keys.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
        keys.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
        keys.entry("add_bos_token").or_insert(json!(false));
        // Else transformers 4 gives `generate` token types too, which it refuses.
        keys.entry("model_input_names").or_insert(json!(["input_ids", "attention_mask"]));
        match model_max_length {
            Some(length) => drop(keys.insert("model_max_length".to_owned(), json!(length))),
            None => drop(keys.entry("model_max_length").or_insert(json!(UNLIMITED))),
        }
        if let Some(template) = chat_template {
            keys.insert("chat_template".to_owned(), json!(template));
        }
        Value::Object(keys)
    }
}
