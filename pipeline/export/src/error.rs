//! Why a model could not be exported or imported.

use std::io;
use std::path::{Path, PathBuf};

use limbeck_checkpoint::CheckpointError;
use limbeck_data::DataError;
use limbeck_model::ModelError;
use limbeck_quant::QuantError;

/// Why a model could not be exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file system refused to read.
    #[error("cannot read `{}`: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file system refused to write.
    #[error(transparent)]
    Write(#[from] CheckpointError),
    /// What a model directory could not hold.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file that is damaged, cut short, or no GGUF.
    #[error("`{}` is not a valid GGUF file: at byte {offset}, {rule}; hint: copy or export the file again", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        offset: u64,
        /// What must be there.
        rule: String,
    },
    /// Something that a valid file says and this crate cannot follow.
    #[error("`{}`: {key} is `{value}`, {rule}; hint: {hint}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Key of the metadata or of the JSON object.
        key: String,
        /// What it says, cut to one line.
        value: String,
        /// What it must be.
        rule: String,
        /// The way out.
        hint: &'static str,
    },
    /// A JSON file that does not parse.
    #[error("`{}` is not valid JSON: {cause}; hint: save the tokenizer again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: serde_json::Error,
    },
    /// A tokenizer that does not load.
    #[error(transparent)]
    Tokenizer(#[from] DataError),
    /// The model has a tensor that was not given or is not in the file.
    #[error("tensor `{0}` is missing; hint: the weights belong to another configuration")]
    Missing(String),
    /// A tensor that the model has no place for.
    #[error("tensor `{0}` has no place in this model; hint: the weights belong to another configuration")]
    Unknown(String),
    /// A tensor of another shape than the configuration asks for.
    #[error(
        "tensor `{name}` has shape {found:?}, must be {expected:?}; hint: the weights belong to another configuration"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// What the configuration asks for.
        expected: Vec<usize>,
        /// What was given.
        found: Vec<usize>,
    },
    /// Values that the number grid refuses.
    #[error("tensor `{name}`: {cause}")]
    Quant {
        /// The tensor.
        name: String,
        /// Where and why.
        cause: QuantError,
    },
}

impl ExportError {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |cause| Self::Read { path: path.to_owned(), cause }
    }

    pub(crate) fn quant(name: &str) -> impl FnOnce(QuantError) -> Self + '_ {
        move |cause| Self::Quant { name: name.to_owned(), cause }
    }

    /// A value that cannot be followed; long ones are cut, so that the message stays readable.
    pub(crate) fn value(path: &Path, key: &str, value: &str, rule: impl Into<String>, hint: &'static str) -> Self {
        const LONGEST: usize = 120;
        let mut shown: String = value.chars().take(LONGEST).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Self::Value { path: path.to_owned(), key: key.to_owned(), value: shown, rule: rule.into(), hint }
    }
}
