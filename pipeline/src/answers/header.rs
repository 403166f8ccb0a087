//! `answers.json`: what the answers are of.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::anyhow;
use limbeck_config::GenerateSection;
use serde::Serialize;
use serde_json::Value;

/// What decides the answers: with the same header, each part has the same bytes.
#[derive(Serialize)]
pub(super) struct Header {
    pub(super) format_version: u32,
    /// Hash of what the conversations ask.
    pub(super) prompts: String,
    /// Hash of the teacher's weights.
    pub(super) teacher: String,
    /// Hash of the teacher's map from tokens to ids.
    pub(super) tokenizer: String,
    /// Of the draws.
    pub(super) seed: u64,
    /// How they are written.
    pub(super) generate: GenerateSection,
}

impl Header {
    /// Refuses to go on with answers that something else gave.
    pub(super) fn check_same(&self, path: &Path, found: &Value) -> anyhow::Result<()> {
        let asked = serde_json::to_value(self)?;
        let leaves = |value: &Value| -> BTreeMap<String, Value> {
            let top = value.as_object().into_iter().flatten().filter(|(key, _)| *key != "generate");
            let section = value["generate"].as_object().into_iter().flatten();
            let section = section.map(|(key, value)| (format!("generate.{key}"), value.clone()));
            top.map(|(key, value)| (key.clone(), value.clone())).chain(section).collect()
        };
        let (found, asked) = (leaves(found), leaves(&asked));
        let differs = found.keys().chain(asked.keys()).find(|key| found.get(*key) != asked.get(*key));
        let Some(key) = differs else { return Ok(()) };
        let shown = |value: Option<&Value>| value.map_or("none".to_owned(), Value::to_string);
        Err(anyhow!(
            "`{}` has {key} `{}`, must be `{}`; hint: give the values that it was begun with, or another --out",
            path.display(),
            shown(found.get(key)),
            shown(asked.get(key))
        ))
    }
}
