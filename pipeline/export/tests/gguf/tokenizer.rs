//! The keys of the tokenizer, and tokenizers that are refused.

use std::fs;
use std::path::Path;

use limbeck_config::Architecture;
use limbeck_export::gguf::{GgufFile, Value};
use limbeck_export::{ExportError, GgufReport, GgufType, write_gguf};

use crate::{config, golden, tensors, tokenizer_with};

fn export(tokenizer: &Path, path: &Path) -> Result<GgufReport, ExportError> {
    let config = config(Architecture::Qwen3, true);
    write_gguf(path, &config, &tensors(&config), tokenizer, GgufType::Q8_0)
}

fn exported(tokenizer: &Path) -> (GgufFile, GgufReport) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("model.gguf");
    let report = export(tokenizer, &path).expect("a tokenizer that llama.cpp knows");
    (GgufFile::open(&path).expect("our own file"), report)
}

fn refused(file: &str, from: &str, to: &str) -> String {
    let tokenizer = tokenizer_with(file, from, to);
    let target = tempfile::tempdir().expect("a temporary directory");
    let error = export(tokenizer.path(), &target.path().join("model.gguf")).expect_err("not exportable").to_string();
    error.replace(&tokenizer.path().display().to_string(), "DIRECTORY")
}

#[test]
fn tokenizers_that_llama_cpp_would_read_otherwise_are_refused() {
    let file = "tokenizer.json";
    let cases = [
        (r#""type": "BPE""#, r#""type": "Unigram""#, "model.type is `\"Unigram\"`, must be `BPE`: only byte-level BPE"),
        (r#""byte_fallback": false"#, r#""byte_fallback": true"#, "model.byte_fallback is `true`, must be `false`"),
        (r#""normalizer": null"#, r#""normalizer": {"type": "Lowercase"}"#, "must be null or NFC"),
        (r#""end_of_word_suffix": null"#, r#""end_of_word_suffix": "</w>""#, "model.end_of_word_suffix is `\"</w>\"`"),
        (r#""add_prefix_space": false"#, r#""add_prefix_space": true"#, "must be a byte-level one with the pattern of"),
        (r#""ignore_merges": false"#, r#""ignore_merges": true"#, "model.ignore_merges is `true`, must be `false`"),
        (
            r#""decoder": {
  "type": "ByteLevel""#,
            r#""decoder": {
  "type": "Metaspace""#,
            "decoder.type is `\"Metaspace\"`, must be `ByteLevel`",
        ),
        (r#""id": 21"#, r#""id": 23"#, "id of token `<think>` is `23`, must be below the model's vocab_size = `23`"),
        (
            r#""Ġ",
    "w""#,
            r#""a b",
    "w""#,
            "must be two tokens without spaces",
        ),
    ];
    for (from, to, rule) in cases {
        let error = refused(file, from, to);
        assert!(error.starts_with("`DIRECTORY/tokenizer.json`: ") && error.contains(rule), "{error}");
        assert!(error.contains("; hint: "), "{error}");
    }
}

#[test]
fn an_end_token_is_asked_for() {
    let file = "tokenizer_config.json";
    let error = refused(file, r#""eos_token": "<|im_end|>""#, r#""eos_token": null"#);
    assert!(
        error.contains("tokenizer_config.json`: eos_token is `missing`, must be a token of tokenizer.json"),
        "{error}"
    );
    let error = refused(file, r#""eos_token": "<|im_end|>""#, r#""eos_token": "</s>""#);
    assert!(error.contains("eos_token is `</s>`, must be a token of tokenizer.json"), "{error}");
}

#[test]
fn files_that_are_missing_or_not_json_are_named() {
    let error = refused("tokenizer.json", "{", "");
    assert!(error.starts_with("`DIRECTORY/tokenizer.json` is not valid JSON: "), "{error}");
    let empty = tempfile::tempdir().expect("a temporary directory");
    let error = export(empty.path(), &empty.path().join("model.gguf")).expect_err("no tokenizer");
    assert!(matches!(&error, ExportError::Read { path, .. } if path.ends_with("tokenizer.json")), "{error}");
}

#[test]
fn the_end_token_is_found_in_config_json_too() {
    let tokenizer = tokenizer_with("tokenizer_config.json", r#""eos_token": "<|im_end|>""#, r#""eos_token": null"#);
    fs::write(tokenizer.path().join("config.json"), r#"{"eos_token_id": [2, 0], "bos_token_id": 1}"#)
        .expect("writable");
    let (file, _) = exported(tokenizer.path());
    assert_eq!(file.metadata["tokenizer.ggml.eos_token_id"], Value::U32(2));
    assert_eq!(file.metadata["tokenizer.ggml.bos_token_id"], Value::U32(1));
}

#[test]
fn merges_as_texts_are_the_same_as_merges_as_pairs() {
    let text = fs::read_to_string(golden("tokenizer/tokenizer.json")).expect("a golden file");
    let start = text.find(r#""merges""#).expect("merges");
    let merges = r#""merges": ["h e", "l l", "he ll", "hell o", "Ġ w"]}}"#;
    let tokenizer = tokenizer_with("tokenizer.json", &text[start..], merges);
    let (file, _) = exported(tokenizer.path());
    let (expected, _) = exported(&golden("tokenizer"));
    assert_eq!(file.metadata, expected.metadata);
}

#[test]
fn a_template_that_adds_the_begin_token_sets_the_flag() {
    let template = r#""post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}, {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    }]}"#;
    let tokenizer = tokenizer_with("tokenizer.json", r#""post_processor": null"#, template);
    let (file, _) = exported(tokenizer.path());
    assert_eq!(file.metadata["tokenizer.ggml.add_bos_token"], Value::Bool(true));
    assert_eq!(file.metadata["tokenizer.ggml.add_eos_token"], Value::Bool(false));
}

#[test]
fn the_chat_template_comes_from_its_file_or_from_the_configuration() {
    let named = r#""chat_template": [{"name": "tool_use", "template": "A"}, {"name": "default", "template": "B"}], "bos_token""#;
    for (entry, expected) in [(r#""chat_template": "C", "bos_token""#, "C"), (named, "B")] {
        let tokenizer = tokenizer_with("tokenizer_config.json", r#""bos_token""#, entry);
        let (file, _) = exported(tokenizer.path());
        let own = fs::read_to_string(golden("tokenizer/chat_template.jinja")).expect("a golden file");
        assert_eq!(file.metadata["tokenizer.chat_template"], Value::String(own));
        fs::remove_file(tokenizer.path().join("chat_template.jinja")).expect("a file");
        let (file, _) = exported(tokenizer.path());
        assert_eq!(file.metadata["tokenizer.chat_template"], Value::String(expected.to_owned()));
    }
}

#[test]
fn what_llama_cpp_does_not_do_is_noted() {
    let tokenizer = tokenizer_with("tokenizer.json", r#""normalizer": null"#, r#""normalizer": {"type": "NFC"}"#);
    let (_, report) = exported(tokenizer.path());
    assert_eq!(report.notes, ["llama.cpp does not normalize texts to NFC: those that are not get other tokens there"]);
}
