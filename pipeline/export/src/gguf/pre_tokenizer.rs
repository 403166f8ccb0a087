//! llama.cpp's pre-tokenizers, which are names there, and the patterns of `tokenizer.json`.

use std::path::Path;

use serde_json::{Value, json};

use crate::ExportError;

/// Contractions, in the two spellings that are in use. They differ in one character: under `(?i)` the long s of old
/// prints, U+017F, is an `s` too, and llama.cpp, which has the second spelling, does not think so.
const CONTRACTIONS: [&str; 2] =
    ["(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"];

/// The rest, for digits one by one (Qwen 2 and 3).
const SINGLE_DIGITS: &str = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The rest, for digits in threes (Llama 3).
const TRIPLE_DIGITS: &str = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// llama.cpp's own, one after the other, where a file names none. The second is GPT-2's.
const DEFAULT: [&str; 4] = [
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
];

const HINT: &str = "train the tokenizer with `prepare`, or export the Hugging Face directory alone";

/// Where a text is cut before its words are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// GPT-2's pattern, which the byte-level step has built in.
    Gpt2,
    /// Every digit alone, then GPT-2's.
    DigitsGpt2,
    /// Qwen 2's.
    Qwen2,
    /// Llama 3's.
    Llama3,
    /// llama.cpp's [`DEFAULT`].
    Default,
}

/// A pre-tokenizer of llama.cpp.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PreTokenizer {
    names: &'static [&'static str],
    cut: Cut,
    /// A word that is a token stays one, whatever the merges say.
    pub(crate) ignores_merges: bool,
    /// Whether a text gets the begin token where the file does not say.
    pub(crate) adds_begin: bool,
}

/// Those that are read; the first name of each but the last two is written too.
///
/// # Source
/// `llama_vocab::impl::load` and `llm_tokenizer_bpe` in llama.cpp's `src/llama-vocab.cpp`.
const KNOWN: [PreTokenizer; 6] = {
    const fn cuts(cut: Cut, names: &'static [&'static str]) -> PreTokenizer {
        PreTokenizer { names, cut, ignores_merges: false, adds_begin: false }
    }
    [
        cuts(Cut::Gpt2, &["gpt-2", "phi-2", "olmo", "mpt", "exaone4"]),
        cuts(Cut::DigitsGpt2, &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"]),
        cuts(Cut::Qwen2, &["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan"]),
        PreTokenizer {
            ignores_merges: true,
            adds_begin: true,
            ..cuts(Cut::Llama3, &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"])
        },
        cuts(Cut::Llama3, &["smaug-bpe", "dbrx"]),
        cuts(Cut::Default, &["default"]),
    ]
};

/// The value of `tokenizer.ggml.pre`.
///
/// # Errors
/// The tokenizer cuts texts as none of the pre-tokenizers of Qwen 2, Llama 3, GPT-2 and SmolLM does. Another name would
/// load, and give other tokens.
pub(crate) fn pre_tokenizer_name(path: &Path, tokenizer: &Value) -> Result<&'static str, ExportError> {
    let found = cut(&tokenizer["pre_tokenizer"]);
    // Llama 3's is written with its merges ignored alone: it is its first entry.
    let Some(known) = KNOWN.iter().find(|known| Some(known.cut) == found) else {
        let value = tokenizer["pre_tokenizer"].to_string();
        let rule = "must be a byte-level one with the pattern of Qwen 2, Llama 3, GPT-2 or SmolLM";
        return Err(ExportError::value(path, "pre_tokenizer", &value, rule, HINT));
    };
    let name = known.names[0];
    let ignores_merges = tokenizer["model"]["ignore_merges"].as_bool().unwrap_or(false);
    if ignores_merges != known.ignores_merges {
        let rule = format!("must be `{}` with pre-tokenizer {name}", !ignores_merges);
        return Err(ExportError::value(path, "model.ignore_merges", &ignores_merges.to_string(), rule, HINT));
    }
    Ok(name)
}

/// The pre-tokenizer that a file names in `tokenizer.ggml.pre`; llama.cpp's default where it names none.
///
/// # Errors
/// A name that is not known: its texts would get other tokens.
pub(crate) fn pre_tokenizer(path: &Path, name: Option<&str>) -> Result<PreTokenizer, ExportError> {
    let name = name.unwrap_or("default");
    let known = KNOWN.into_iter().find(|known| known.names.contains(&name));
    known.ok_or_else(|| {
        let names: Vec<&str> = KNOWN.iter().flat_map(|known| known.names).copied().collect();
        let rule = format!("must be one of {}", names.join(", "));
        ExportError::value(path, "tokenizer.ggml.pre", name, rule, "use the Hugging Face directory of the model")
    })
}

impl PreTokenizer {
    /// Its `pre_tokenizer` in `tokenizer.json`.
    pub(crate) fn to_json(self) -> Value {
        let byte_level = |splits: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": splits });
        let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
        let steps = match self.cut {
            Cut::Gpt2 => return byte_level(true),
            Cut::DigitsGpt2 => vec![json!({ "type": "Digits", "individual_digits": true }), byte_level(true)],
            Cut::Qwen2 => vec![split(&[CONTRACTIONS[1], SINGLE_DIGITS].concat()), byte_level(false)],
            Cut::Llama3 => vec![split(&[CONTRACTIONS[1], TRIPLE_DIGITS].concat()), byte_level(false)],
            Cut::Default => DEFAULT.into_iter().map(split).chain([byte_level(false)]).collect(),
        };
        json!({ "type": "Sequence", "pretokenizers": steps })
    }
}

/// How a `pre_tokenizer` of `tokenizer.json` cuts.
fn cut(pre_tokenizer: &Value) -> Option<Cut> {
    match steps(pre_tokenizer).as_slice() {
        [byte_level] if is_byte_level(byte_level, true) => Some(Cut::Gpt2),
        [digits, byte_level] if is_byte_level(byte_level, true) => {
            (digits["type"] == "Digits" && digits["individual_digits"] == true).then_some(Cut::DigitsGpt2)
        }
        [split, byte_level] if is_byte_level(byte_level, false) => split_cut(split),
        _ => None,
    }
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

fn split_cut(step: &Value) -> Option<Cut> {
    if step["type"] != "Split" || step["behavior"] != "Isolated" || step["invert"] == true {
        return None;
    }
    let pattern = step["pattern"]["Regex"].as_str()?;
    let rest = CONTRACTIONS.iter().find_map(|contractions| pattern.strip_prefix(contractions))?;
    match rest {
        SINGLE_DIGITS => Some(Cut::Qwen2),
        TRIPLE_DIGITS => Some(Cut::Llama3),
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
    fn what_is_read_is_written_under_the_same_name() {
        for known in &KNOWN[..4] {
            for name in known.names {
                let read = pre_tokenizer(Path::new("model.gguf"), Some(name)).expect("known");
                assert_eq!(super::tests::name(read.to_json(), read.ignores_merges).as_deref(), Ok(known.names[0]));
            }
        }
        let error = pre_tokenizer(Path::new("model.gguf"), Some("tekken")).expect_err("not known").to_string();
        assert!(error.starts_with("`model.gguf`: tokenizer.ggml.pre is `tekken`, must be one of gpt-2, "), "{error}");
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
