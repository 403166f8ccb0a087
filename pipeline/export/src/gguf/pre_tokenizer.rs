//! Which of llama.cpp's pre-tokenizers a `tokenizer.json` has: there they are names, not patterns.

use std::path::Path;

use serde_json::Value;

use crate::ExportError;

/// Contractions, in the two spellings that are in use. They differ in one character: under `(?i)` the long s of old
/// prints, U+017F, is an `s` too, and llama.cpp does not think so.
const CONTRACTIONS: [&str; 2] =
    ["(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"];

/// The rest, for digits one by one (Qwen 2 and 3).
const SINGLE_DIGITS: &str = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The rest, for digits in threes (Llama 3).
const TRIPLE_DIGITS: &str = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const HINT: &str = "train the tokenizer with `prepare`, or export the Hugging Face directory alone";

/// The value of `tokenizer.ggml.pre`.
///
/// # Errors
/// The tokenizer cuts texts as none of the pre-tokenizers of Qwen 2, Llama 3 and GPT-2 does. Another name would load,
/// and give other tokens.
///
/// # Source
/// `llm_tokenizer_bpe` in llama.cpp's `src/llama-vocab.cpp`; `ignore_merges` is a property of `llama-bpe` there.
pub(crate) fn pre_tokenizer_name(path: &Path, tokenizer: &Value) -> Result<&'static str, ExportError> {
    let steps = steps(&tokenizer["pre_tokenizer"]);
    let name = match steps.as_slice() {
        [byte_level] if is_byte_level(byte_level, true) => Some("gpt-2"),
        [split, byte_level] if is_byte_level(byte_level, false) => split_name(split),
        _ => None,
    };
    let Some(name) = name else {
        let value = tokenizer["pre_tokenizer"].to_string();
        let rule = "must be a byte-level one with the pattern of Qwen 2, Llama 3 or GPT-2";
        return Err(ExportError::value(path, "pre_tokenizer", &value, rule, HINT));
    };
    let ignores_merges = tokenizer["model"]["ignore_merges"].as_bool().unwrap_or(false);
    if ignores_merges != (name == "llama-bpe") {
        let rule = format!("must be `{}` with pre-tokenizer {name}", !ignores_merges);
        return Err(ExportError::value(path, "model.ignore_merges", &ignores_merges.to_string(), rule, HINT));
    }
    Ok(name)
}

/// The steps of a sequence, or the one that stands alone.
fn steps(pre_tokenizer: &Value) -> Vec<&Value> {
    match pre_tokenizer["pretokenizers"].as_array() {
        Some(steps) if pre_tokenizer["type"] == "Sequence" => steps.iter().collect(),
        _ => vec![pre_tokenizer],
    }
}

fn is_byte_level(step: &Value, splits: bool) -> bool {
    step["type"] == "ByteLevel"
        && step["add_prefix_space"] == false
        && step["use_regex"].as_bool().unwrap_or(true) == splits
}

fn split_name(step: &Value) -> Option<&'static str> {
    if step["type"] != "Split" || step["behavior"] != "Isolated" || step["invert"] == true {
        return None;
    }
    let pattern = step["pattern"]["Regex"].as_str()?;
    let rest = CONTRACTIONS.iter().find_map(|contractions| pattern.strip_prefix(contractions))?;
    match rest {
        SINGLE_DIGITS => Some("qwen2"),
        TRIPLE_DIGITS => Some("llama-bpe"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(pre_tokenizer: Value, ignore_merges: bool) -> Result<&'static str, String> {
        let tokenizer = json!({ "pre_tokenizer": pre_tokenizer, "model": { "ignore_merges": ignore_merges } });
        pre_tokenizer_name(Path::new("tokenizer.json"), &tokenizer).map_err(|error| error.to_string())
    }

    fn sequence(pattern: &str) -> Value {
        json!({ "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
        ]})
    }

    #[test]
    fn patterns_have_the_names_that_llama_cpp_gives_them() {
        // As published with Qwen2.5 and Llama 3.
        let qwen = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        let llama = qwen.replace(r"|\p{N}|", r"|\p{N}{1,3}|");
        assert_eq!(name(sequence(qwen), false), Ok("qwen2"));
        assert_eq!(name(sequence(&llama), true), Ok("llama-bpe"));
        let gpt2 = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
        assert_eq!(name(gpt2, false), Ok("gpt-2"));
    }

    #[test]
    fn what_llama_cpp_would_cut_otherwise_is_refused() {
        let llama = [CONTRACTIONS[0], TRIPLE_DIGITS].concat();
        let error = name(sequence(&llama), false).expect_err("llama-bpe ignores merges");
        assert!(
            error.contains("model.ignore_merges is `false`, must be `true` with pre-tokenizer llama-bpe"),
            "{error}"
        );
        assert!(name(sequence(r"\p{L}+|\p{N}+|\s+"), false).is_err());
        let prefixed = json!({ "type": "ByteLevel", "add_prefix_space": true, "use_regex": true });
        assert!(name(prefixed, false).is_err());
        let metaspace = json!({ "type": "Metaspace", "replacement": "▁" });
        assert!(name(metaspace, false).expect_err("not byte-level").contains("must be a byte-level one"));
        assert!(name(Value::Null, false).is_err());
    }
}
