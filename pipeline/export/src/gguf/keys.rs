//! The model's shape as metadata, and back.

use std::path::Path;

use limbeck_config::{Architecture, ModelConfig};

use super::GgufType;
use super::read::GgufFile;
use super::value::Value;
use crate::ExportError;

/// llama.cpp's `GGML_QNT_VERSION`: the layout of quantized blocks.
const QUANTIZATION_VERSION: u32 = 2;

/// The keys of the model, architecture first, as llama.cpp's tools write them.
///
/// `attention.key_length`, `value_length` and `rope.dimension_count` always: without them llama.cpp takes
/// hidden_size / num_attention_heads, which is another number when head_dim was chosen freely.
pub(crate) fn model_metadata(config: &ModelConfig, name: &str, kind: GgufType) -> Vec<(String, Value)> {
    // No `..`: a new field of the shape must be written here or refused.
    let ModelConfig {
        architecture,
        vocab_size,
        hidden_size,
        intermediate_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        rms_norm_eps,
        rope_theta,
        tie_word_embeddings: _, // said by the absence of `output.weight`
        max_position_embeddings,
    } = config;
    let architecture = architecture_name(*architecture);
    let general = [
        ("general.architecture", Value::String(architecture.to_owned())),
        ("general.type", Value::String("model".to_owned())),
        ("general.name", Value::String(name.to_owned())),
        ("general.file_type", Value::U32(kind.file_type())),
        ("general.quantization_version", Value::U32(QUANTIZATION_VERSION)),
    ];
    let size = |size: &usize| Value::U32(u32::try_from(*size).unwrap_or(u32::MAX)); // no tensor has 2^32 rows
    let shape = [
        ("block_count", size(num_hidden_layers)),
        ("context_length", size(max_position_embeddings)),
        ("embedding_length", size(hidden_size)),
        ("feed_forward_length", size(intermediate_size)),
        ("attention.head_count", size(num_attention_heads)),
        ("attention.head_count_kv", size(num_key_value_heads)),
        ("rope.freq_base", Value::F32(*rope_theta as f32)),
        ("attention.layer_norm_rms_epsilon", Value::F32(*rms_norm_eps as f32)),
        ("attention.key_length", size(head_dim)),
        ("attention.value_length", size(head_dim)),
        ("rope.dimension_count", size(head_dim)),
        ("vocab_size", size(vocab_size)),
    ];
    let general = general.into_iter().map(|(key, value)| (key.to_owned(), value));
    general.chain(shape.into_iter().map(|(key, value)| (format!("{architecture}.{key}"), value))).collect()
}

/// The shape that a file describes.
///
/// # Errors
/// A key that is missing, out of range, or asks for what the decoder does not have.
pub(crate) fn model_config(file: &GgufFile) -> Result<ModelConfig, ExportError> {
    let architecture = match file.metadata.get("general.architecture") {
        Some(Value::String(name)) if name == "qwen3" => Architecture::Qwen3,
        Some(Value::String(name)) if name == "llama" => Architecture::Llama,
        Some(Value::String(name)) if name == "qwen2" => Architecture::Qwen2,
        found => return Err(wrong(file.path(), "general.architecture", found, "must be `llama`, `qwen2` or `qwen3`")),
    };
    let keys = Keys { file, architecture: architecture_name(architecture) };
    keys.refuse_what_the_decoder_lacks()?;
    let num_attention_heads = keys.size("attention.head_count")?;
    let hidden_size = keys.size("embedding_length")?;
    let head_dim = keys.optional_size("attention.key_length")?.unwrap_or(hidden_size / num_attention_heads);
    let config = ModelConfig {
        architecture,
        vocab_size: keys.rows_of("token_embd.weight")?,
        hidden_size,
        intermediate_size: keys.size("feed_forward_length")?,
        num_hidden_layers: keys.size("block_count")?,
        num_attention_heads,
        num_key_value_heads: keys.optional_size("attention.head_count_kv")?.unwrap_or(num_attention_heads),
        head_dim,
        rms_norm_eps: keys.float("attention.layer_norm_rms_epsilon")?,
        rope_theta: keys.optional_float("rope.freq_base")?.unwrap_or(10_000.0), // llama.cpp's default
        tie_word_embeddings: !file.tensors.contains_key("output.weight"),
        max_position_embeddings: keys.size("context_length")?,
    };
    keys.check(&config)?;
    Ok(config)
}

struct Keys<'a> {
    file: &'a GgufFile,
    architecture: &'static str,
}

impl Keys<'_> {
    fn refuse_what_the_decoder_lacks(&self) -> Result<(), ExportError> {
        if let Some(found) = self.get("expert_count").filter(|count| count.as_unsigned() != Some(0)) {
            return Err(self.wrong("expert_count", Some(found), "must be 0: the decoder has no experts"));
        }
        let scaling = self.get("rope.scaling.type");
        if scaling.is_some_and(|kind| *kind != Value::String("none".to_owned())) {
            return Err(self.wrong(
                "rope.scaling.type",
                scaling,
                "must be `none`: the decoder does not scale its angles",
            ));
        }
        Ok(())
    }

    fn check(&self, config: &ModelConfig) -> Result<(), ExportError> {
        if !config.head_dim.is_multiple_of(2) || config.head_dim == 0 {
            return Err(self.wrong(
                "attention.key_length",
                self.get("attention.key_length"),
                "must be even, at least 2",
            ));
        }
        for key in ["attention.value_length", "rope.dimension_count"] {
            if self.optional_size(key)?.is_some_and(|size| size != config.head_dim) {
                let rule = format!("must be the `{}` of {}.attention.key_length", config.head_dim, self.architecture);
                return Err(self.wrong(key, self.get(key), rule));
            }
        }
        if !config.num_attention_heads.is_multiple_of(config.num_key_value_heads) {
            let key = "attention.head_count_kv";
            let rule = format!("must divide the `{}` of attention.head_count", config.num_attention_heads);
            return Err(self.wrong(key, self.get(key), rule));
        }
        // Bounds what is made from the number of blocks.
        if config.num_hidden_layers > self.file.tensors.len() {
            let rule = format!("must be at most the number of tensors, `{}`", self.file.tensors.len());
            return Err(self.wrong("block_count", self.get("block_count"), rule));
        }
        Ok(())
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.file.metadata.get(&format!("{}.{key}", self.architecture))
    }

    fn size(&self, key: &str) -> Result<usize, ExportError> {
        self.optional_size(key)?.ok_or_else(|| self.wrong(key, None, "must be given"))
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>, ExportError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let size = value.as_unsigned().and_then(|size| u32::try_from(size).ok()).filter(|size| *size > 0);
        let rule = "must be a whole number of at least 1, the same in every layer";
        size.map(|size| Some(size as usize)).ok_or_else(|| self.wrong(key, Some(value), rule))
    }

    fn float(&self, key: &str) -> Result<f64, ExportError> {
        self.optional_float(key)?.ok_or_else(|| self.wrong(key, None, "must be given"))
    }

    fn optional_float(&self, key: &str) -> Result<Option<f64>, ExportError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(value)) if value.is_finite() && *value > 0.0 => Ok(Some(shortest(*value))),
            Some(value) => Err(self.wrong(key, Some(value), "must be a 32-bit float above 0")),
        }
    }

    fn rows_of(&self, name: &str) -> Result<usize, ExportError> {
        let info = self.file.tensors.get(name).ok_or_else(|| ExportError::Missing(name.to_owned()))?;
        Ok(info.shape[0])
    }

    fn wrong(&self, key: &str, found: Option<&Value>, rule: impl Into<String>) -> ExportError {
        wrong(self.file.path(), &format!("{}.{key}", self.architecture), found, rule)
    }
}

fn wrong(path: &Path, key: &str, found: Option<&Value>, rule: impl Into<String>) -> ExportError {
    let found = found.map_or("missing".to_owned(), Value::to_string);
    ExportError::value(path, key, &found, rule, "use a file of a plain Llama, Qwen2 or Qwen3 decoder")
}

const fn architecture_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Qwen3 => "qwen3",
        Architecture::Llama => "llama",
        Architecture::Qwen2 => "qwen2",
    }
}

/// The number of fewest digits that rounds to `value`: `1e-6` again, not `9.999999974752427e-7`.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
