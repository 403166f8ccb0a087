//! Why a model could not be read, written or run.

use std::path::PathBuf;

/// Why a model could not be read, written or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file system refused.
    #[error("`{path}`: {source}; hint: {}", io_hint(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The file is not safetensors.
    #[error("`{path}` is not a valid safetensors file: {source}; hint: copy it again")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: safetensors::SafeTensorError,
    },
    /// The file is not JSON of the expected kind.
    #[error("`{path}` is not a valid model configuration: {source}; hint: copy it again")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A configuration that this decoder cannot run.
    #[error("`{path}`: {key} is `{value}`, {rule}; hint: this decoder is a plain Llama, Qwen2 or Qwen3")]
    Config {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// An index that names files which are not beside it.
    #[error(
        "`{path}`: tensor `{name}` is in `{file}`, must be in a .safetensors file of the same directory; hint: copy the \
         directory again"
    )]
    ShardName {
        /// The index.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What it names.
        file: String,
    },
    /// A file that lacks a tensor which the index places there.
    #[error(
        "`{path}`: tensor `{name}` is not in `{file}`; hint: the files belong to different models, copy them again"
    )]
    Shard {
        /// The index.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Where it must be.
        file: String,
    },
    /// A configuration of a larger model than the weights beside it.
    #[error(
        "`{path}` describes `{expected}` parameters, the weights beside it hold `{found}`; hint: they belong to different \
         models"
    )]
    Parameters {
        /// The configuration.
        path: PathBuf,
        /// Parameters that it describes.
        expected: usize,
        /// Numbers in the weights.
        found: usize,
    },
    /// The file lacks a tensor that the model has.
    #[error("tensor `{0}` is missing; hint: the weights belong to another config.json")]
    Missing(String),
    /// The file has a tensor that the model lacks.
    #[error("tensor `{0}` is unknown to this model; hint: the weights belong to another config.json")]
    Unknown(String),
    /// The tensor has another shape than the parameter.
    #[error(
        "tensor `{name}` has shape `{found:?}`, must be `{expected:?}`; hint: the weights belong to another config.json"
    )]
    Shape {
        /// Path of the parameter.
        name: String,
        /// Shape of the parameter.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A packed matrix whose words, scales and biases do not go together.
    #[error("tensor `{name}`: {cause}")]
    Packed {
        /// The matrix.
        name: String,
        /// What is wrong.
        cause: limbeck_quant::QuantError,
    },
    /// The tensor's numbers are not 16- or 32-bit floats.
    #[error(
        "`{path}`: tensor `{name}` has type `{found}`, must be F32, F16 or BF16; hint: use the model before quantisation"
    )]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
    },
    /// A weight that its grid cannot hold.
    #[error("parameter `{name}`: {source}")]
    Quant {
        /// The parameter.
        name: String,
        /// Where and why.
        source: limbeck_quant::QuantError,
    },
    /// A prompt without tokens.
    #[error("prompt `{row}` is empty, must have at least one token; hint: begin with the begin-of-text token")]
    EmptyPrompt {
        /// Index of the prompt.
        row: usize,
    },
    /// A prompt that leaves no room for an answer.
    #[error(
        "prompt `{row}` has `{tokens}` tokens, must have fewer than max_position_embeddings = `{limit}`; hint: shorten it"
    )]
    LongPrompt {
        /// Index of the prompt.
        row: usize,
        /// Its length.
        tokens: usize,
        /// What the model was made for.
        limit: usize,
    },
    /// A token that the embedding has no row for.
    #[error(
        "token `{token}` of prompt `{row}` must be below vocab_size = `{vocab_size}`; hint: use the model's own tokenizer"
    )]
    UnknownToken {
        /// Index of the prompt.
        row: usize,
        /// The token.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
}

fn io_hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::NotFound => "give a directory with config.json and model.safetensors",
        std::io::ErrorKind::StorageFull => "free space, or write to another device",
        std::io::ErrorKind::PermissionDenied => "check the permissions",
        _ => "check that the path is right and the device is there",
    }
}
