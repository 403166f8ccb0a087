//! Model directories as Hugging Face's loaders expect them: `config.json`, `generation_config.json`, `model.safetensors`.

use std::path::Path;

use burn::tensor::Device;
use limbeck_config::{Architecture, FakeQuantSection, ModelConfig};
use serde_json::{Map, Value, json};

use crate::error::ModelError;
use crate::packed::Packing;
use crate::shards::load_weights;
use crate::transformer::Transformer;
use crate::weights::{load_parameters, parameters, save_tensors};

/// Tokens that loaders ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIds {
    /// Every token that ends a generation.
    pub end: Vec<u32>,
    /// Fills short rows.
    pub padding: u32,
}

/// Where a directory says that its weights are the masters of others: [`limbeck_config::FakeQuantSection`].
const FAKE_QUANT_FILE: &str = "fake_quant.json";

/// Writes `config.json`, `generation_config.json` and `model.safetensors` into `directory`, and `fake_quant.json` where the
/// parameters are the masters of weights on a grid.
///
/// # Errors
/// If a file cannot be written.
pub fn write_directory(model: &Transformer, ids: &TokenIds, directory: &Path) -> Result<(), ModelError> {
    write_config(model.config(), ids, Map::new(), directory)?;
    if let Some(section) = model.fake_quant() {
        write_json(&directory.join(FAKE_QUANT_FILE), &json!(section))?;
    }
    save_tensors(&directory.join("model.safetensors"), &parameters(model))
}

/// The model of a directory, its weights in one file or several; matrices that mlx-lm quantised become 32-bit floats.
/// `lm_head.weight` of a tied model is ignored: some tools write the embedding twice.
///
/// # Errors
/// If a file is missing or malformed, or describes a model that this decoder cannot run.
pub fn load_directory(directory: &Path, device: &Device) -> Result<Transformer, ModelError> {
    let object = &read_object(directory)?;
    let reader = Reader { path: &directory.join("config.json"), object };
    let (config, packing) = (reader.config()?, reader.packing()?);
    let mut tensors = packing.unpack(load_weights(directory)?, directory)?;
    if config.tie_word_embeddings {
        tensors.remove("lm_head.weight");
    }
    // Tables of angles, which transformers saved until version 4.31.
    tensors.retain(|name, _| !name.ends_with(".rotary_emb.inv_freq"));
    let found = tensors.values().map(|tensor| tensor.values.len()).sum();
    let expected = config.parameter_count();
    if expected > found {
        // Before memory is taken for them: a configuration from elsewhere may say anything.
        return Err(ModelError::Parameters { path: directory.join("config.json"), expected, found });
    }
    let model = load_parameters(Transformer::zeros(&config, device), tensors)?;
    Ok(model.with_fake_quant(read_fake_quant(directory)?))
}

fn read_fake_quant(directory: &Path) -> Result<Option<FakeQuantSection>, ModelError> {
    let path = directory.join(FAKE_QUANT_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|source| ModelError::Json { path, source }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ModelError::Io { path, source }),
    }
}

/// Writes `config.json` and `generation_config.json`, with the keys of transformers 4 and of 5: `rope_theta` stands
/// alone and inside `rope_parameters`, the number type is `torch_dtype` and `dtype`. What `others` has of `config.json`
/// takes the place of what would be there, or is added.
///
/// # Errors
/// If a file cannot be written.
pub fn write_config(
    config: &ModelConfig,
    ids: &TokenIds,
    others: Map<String, Value>,
    directory: &Path,
) -> Result<(), ModelError> {
    // No `..`: a new field of the shape must be written here or nowhere.
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
        tie_word_embeddings,
        max_position_embeddings,
    } = config;
    let mut object = json!({
        "attention_dropout": 0.0,
        "bos_token_id": null,
        "dtype": "float32",
        "eos_token_id": ids.end.first(),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "hidden_size": hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": intermediate_size,
        "max_position_embeddings": max_position_embeddings,
        "num_attention_heads": num_attention_heads,
        "num_hidden_layers": num_hidden_layers,
        "num_key_value_heads": num_key_value_heads,
        "pad_token_id": ids.padding,
        "rms_norm_eps": rms_norm_eps,
        "rope_parameters": { "rope_theta": rope_theta, "rope_type": "default" },
        "rope_theta": rope_theta,
        "tie_word_embeddings": tie_word_embeddings,
        "torch_dtype": "float32",
        "use_cache": true,
        "vocab_size": vocab_size,
    });
    let own = match architecture {
        Architecture::Qwen3 => json!({
            "architectures": ["Qwen3ForCausalLM"],
            "attention_bias": false,
            "layer_types": vec!["full_attention"; *num_hidden_layers],
            "max_window_layers": num_hidden_layers,
            "model_type": "qwen3",
            "sliding_window": null,
            "use_sliding_window": false,
        }),
        Architecture::Llama => json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": false,
            "mlp_bias": false,
            "model_type": "llama",
        }),
        Architecture::Qwen2 => json!({
            // Its biases are not said: the class has them.
            "architectures": ["Qwen2ForCausalLM"],
            "layer_types": vec!["full_attention"; *num_hidden_layers],
            "max_window_layers": num_hidden_layers,
            "model_type": "qwen2",
            "sliding_window": null,
            "use_sliding_window": false,
        }),
    };
    if let (Value::Object(object), Value::Object(own)) = (&mut object, own) {
        object.extend(own);
        object.extend(others);
    }
    write_json(&directory.join("config.json"), &object)?;
    let generation = json!({ "eos_token_id": ids.end, "pad_token_id": ids.padding });
    write_json(&directory.join("generation_config.json"), &generation)
}

/// The shape that `config.json` in `directory` describes.
///
/// # Errors
/// If the file is missing or malformed, or asks for what this decoder does not have: biases other than Qwen2's, scaled
/// rotary angles, sliding windows, weights quantised otherwise than by mlx-lm, another activation than SiLU.
pub fn read_config(directory: &Path) -> Result<ModelConfig, ModelError> {
    Reader { path: &directory.join("config.json"), object: &read_object(directory)? }.config()
}

fn read_object(directory: &Path) -> Result<Map<String, Value>, ModelError> {
    let path = directory.join("config.json");
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|source| ModelError::Json { path, source }),
        Err(source) => Err(ModelError::Io { path, source }),
    }
}

struct Reader<'a> {
    path: &'a Path,
    object: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn config(&self) -> Result<ModelConfig, ModelError> {
        let architecture = match self.object.get("model_type").and_then(Value::as_str) {
            Some("qwen3") => Architecture::Qwen3,
            Some("llama") => Architecture::Llama,
            Some("qwen2") => Architecture::Qwen2,
            _ => return Err(self.wrong("model_type", "must be `llama`, `qwen2` or `qwen3`")),
        };
        self.refuse_what_the_decoder_lacks()?;
        let hidden_size = self.size("hidden_size")?;
        let num_attention_heads = self.size("num_attention_heads")?;
        let config = ModelConfig {
            architecture,
            vocab_size: self.size("vocab_size")?,
            hidden_size,
            intermediate_size: self.size("intermediate_size")?,
            num_hidden_layers: self.size("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: self.optional_size("num_key_value_heads")?.unwrap_or(num_attention_heads),
            head_dim: self.optional_size("head_dim")?.unwrap_or(match architecture {
                Architecture::Qwen3 => 128, // `Qwen3Config` has this default, whatever the other sizes
                Architecture::Llama | Architecture::Qwen2 => hidden_size / num_attention_heads,
            }),
            // Where these two are left out, transformers has the same value for all three.
            rms_norm_eps: self.number("rms_norm_eps", self.object.get("rms_norm_eps"), 1e-6)?,
            rope_theta: self.rope_theta()?,
            tie_word_embeddings: self.object.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
            max_position_embeddings: self.size("max_position_embeddings")?,
        };
        if config.head_dim == 0 || !config.head_dim.is_multiple_of(2) {
            return Err(self.wrong("head_dim", "must be even, at least 2"));
        }
        if !config.num_attention_heads.is_multiple_of(config.num_key_value_heads) {
            return Err(self.wrong("num_key_value_heads", "must divide num_attention_heads"));
        }
        Ok(config)
    }

    /// transformers 5 keeps it inside `rope_parameters`, 4 beside `rope_scaling`.
    fn rope_theta(&self) -> Result<f64, ModelError> {
        let parameters = self.object.get("rope_parameters").or_else(|| self.object.get("rope_scaling"));
        let parameters = parameters.and_then(Value::as_object);
        let kind = parameters.and_then(|p| p.get("rope_type").or_else(|| p.get("type"))).and_then(Value::as_str);
        if kind.is_some_and(|kind| kind != "default") {
            return Err(self.wrong("rope_parameters", "must have rope_type `default`: scaled angles are not supported"));
        }
        let theta = parameters.and_then(|p| p.get("rope_theta")).or_else(|| self.object.get("rope_theta"));
        self.number("rope_theta", theta, 10_000.0)
    }

    fn refuse_what_the_decoder_lacks(&self) -> Result<(), ModelError> {
        for key in ["attention_bias", "mlp_bias", "use_sliding_window"] {
            if self.object.get(key).and_then(Value::as_bool) == Some(true) {
                return Err(self.wrong(key, "must be false: this decoder has neither sliding windows nor these biases"));
            }
        }
        if self.object.get("hidden_act").is_some_and(|activation| activation != "silu") {
            return Err(self.wrong("hidden_act", "must be `silu`"));
        }
        // mlx-lm writes it too, as a copy of `quantization`.
        let is_there = |key: &str| self.object.get(key).is_some_and(|section| !section.is_null());
        if is_there("quantization_config") && !is_there("quantization") {
            return Err(self.wrong(
                "quantization_config",
                "must not be there: give the model before quantisation, a GGUF file, or a directory of mlx-lm",
            ));
        }
        Ok(())
    }

    /// What mlx-lm says of packed matrices.
    fn packing(&self) -> Result<Packing, ModelError> {
        let section = self.object.get("quantization").filter(|section| !section.is_null());
        let rule = "must have mode `affine`, 2, 4 or 8 bits, and a group_size of whole 32-bit words";
        section.map_or(Ok(Packing::default()), |section| {
            Packing::read(section).ok_or_else(|| self.wrong("quantization", rule))
        })
    }

    fn size(&self, key: &'static str) -> Result<usize, ModelError> {
        self.optional_size(key)?.ok_or_else(|| self.wrong(key, "must be given"))
    }

    fn optional_size(&self, key: &'static str) -> Result<Option<usize>, ModelError> {
        match self.object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(size) if size > 0 && size <= u32::MAX.into() => Ok(Some(size as usize)),
                _ => Err(self.wrong(key, "must be a whole number of at least 1")),
            },
        }
    }

    fn number(&self, key: &'static str, value: Option<&Value>, default: f64) -> Result<f64, ModelError> {
        let Some(value) = value else { return Ok(default) };
        let number = value.as_f64().filter(|number| *number > 0.0 && number.is_finite());
        number.ok_or_else(|| self.wrong(key, "must be a number above 0"))
    }

    fn wrong(&self, key: &'static str, rule: &'static str) -> ModelError {
        let value = self.object.get(key).map_or("missing".to_owned(), Value::to_string);
        ModelError::Config { path: self.path.to_owned(), key, value, rule }
    }
}

fn write_json(path: &Path, value: &Value) -> Result<(), ModelError> {
    std::fs::write(path, format!("{value:#}\n")).map_err(|source| ModelError::Io { path: path.to_owned(), source })
}
