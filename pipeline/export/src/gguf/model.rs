//! A whole model, to a file and back.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use limbeck_config::ModelConfig;
use limbeck_model::{HostTensor, NamedTensors};
use limbeck_quant::Grid;

use super::keys::{model_config, model_metadata};
use super::layout::{TensorLayout, interleave, separate, tensor_layouts};
use super::read::GgufFile;
use super::tokenizer::tokenizer_metadata;
use super::write::{TensorSource, write_container};
use crate::ExportError;

/// How the matrices of a file are stored. Vectors, which are norms and biases, are always F32: llama.cpp aborts on others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufType {
    /// 32-bit floats: exact.
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit blocks of 32, the embedding included. A matrix whose rows are not whole blocks is stored as F16.
    Q8_0,
}

impl GgufType {
    /// llama.cpp's `llama_ftype`.
    pub(crate) const fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
        }
    }

    const fn grid(self) -> Grid {
        match self {
            Self::F32 => Grid::F32,
            Self::F16 => Grid::F16,
            Self::Q8_0 => Grid::Q8_0,
        }
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.grid().fmt(formatter)
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufReport {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub file_bytes: u64,
    /// How its matrices are stored.
    pub kind: GgufType,
    /// Matrices that are stored otherwise.
    pub fallbacks: Vec<Fallback>,
    /// Where llama.cpp's tokenizer may differ from the one that was exported.
    pub notes: Vec<String>,
}

/// A matrix that is stored in another type than the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Its name in the file.
    pub tensor: String,
    /// Values in a row, no multiple of the block.
    pub input_size: usize,
    /// How it is stored.
    pub stored: Grid,
}

impl fmt::Display for Fallback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensor, input_size, stored } = self;
        write!(formatter, "{tensor} is stored as {stored}: its rows of {input_size} values are not whole blocks of 32")
    }
}

/// Writes a model and its tokenizer to one file that llama.cpp loads.
///
/// # Shapes
/// `tensors`: Hugging Face's names and shapes, [output_size, input_size]. `lm_head.weight` is left out when the
/// embeddings are tied.
///
/// # Errors
/// A tensor that is missing, unknown, of another shape or not finite; a tokenizer that llama.cpp would read otherwise
/// or that has more tokens than the embedding has rows; what the file system says. A file at `path` is then as it was.
pub fn write_gguf(
    path: &Path,
    config: &ModelConfig,
    tensors: &NamedTensors,
    tokenizer_directory: &Path,
    kind: GgufType,
) -> Result<GgufReport, ExportError> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let tokenizer = tokenizer_metadata(tokenizer_directory, config.vocab_size)?;
    let mut metadata = model_metadata(config, &name, kind);
    metadata.extend(tokenizer.metadata);
    let layouts = tensor_layouts(config);
    if let Some(unknown) = tensors.keys().find(|name| layouts.iter().all(|layout| layout.hugging_face != **name)) {
        return Err(ExportError::Unknown(unknown.clone()));
    }
    let mut fallbacks = Vec::new();
    let mut sources = Vec::with_capacity(layouts.len());
    for layout in layouts {
        let grid = stored_grid(&layout, kind);
        if layout.shape.len() > 1 && grid != kind.grid() {
            let input_size = layout.shape[layout.shape.len() - 1];
            fallbacks.push(Fallback { tensor: layout.gguf.clone(), input_size, stored: grid });
        }
        sources.push(tensor_source(layout, grid, config.head_dim, tensors)?);
    }
    write_container(path, &metadata, &sources)?;
    let file_bytes = std::fs::metadata(path).map_err(ExportError::read(path))?.len();
    Ok(GgufReport { path: path.to_owned(), file_bytes, kind, fallbacks, notes: tokenizer.notes })
}

/// Reads a file of architecture `llama`, `qwen2` or `qwen3`; all numbers become 32-bit floats, names and row order become
/// Hugging Face's.
///
/// # Errors
/// The file is not there, damaged, of another architecture, holds other types than those of [`Grid`], or its
/// tensors are not those of its metadata.
pub fn read_gguf(path: &Path) -> Result<(ModelConfig, NamedTensors), ExportError> {
    let file = GgufFile::open(path)?;
    let config = model_config(&file)?;
    let layouts = tensor_layouts(&config);
    if let Some(unknown) = file.tensors.keys().find(|name| layouts.iter().all(|layout| layout.gguf != **name)) {
        return Err(ExportError::Unknown(unknown.clone()));
    }
    let mut tensors = NamedTensors::new();
    for TensorLayout { hugging_face, gguf, shape, interleaved_heads } in layouts {
        let info = file.tensors.get(&gguf).ok_or_else(|| ExportError::Missing(gguf.clone()))?;
        if info.shape != shape {
            return Err(ExportError::Shape { name: gguf, expected: shape, found: info.shape.clone() });
        }
        let values = file.tensor(&gguf)?;
        let values = match interleaved_heads {
            Some(heads) => separate(&values, heads, config.head_dim),
            None => values,
        };
        tensors.insert(hugging_face, HostTensor { shape, values });
    }
    Ok((config, tensors))
}

/// llama.cpp's own quantizer falls back to F16 from Q8_0 too (`llama_tensor_get_type`).
fn stored_grid(layout: &TensorLayout, kind: GgufType) -> Grid {
    match *layout.shape.as_slice() {
        [_, input_size] if input_size.is_multiple_of(kind.grid().block_size()) => kind.grid(),
        [_, _] => Grid::F16,
        _ => Grid::F32,
    }
}

fn tensor_source(
    layout: TensorLayout,
    grid: Grid,
    head_dim: usize,
    tensors: &NamedTensors,
) -> Result<TensorSource<'_>, ExportError> {
    let TensorLayout { hugging_face, gguf, shape, interleaved_heads } = layout;
    let Some(tensor) = tensors.get(&hugging_face) else { return Err(ExportError::Missing(hugging_face)) };
    if tensor.shape != shape {
        return Err(ExportError::Shape { name: hugging_face, expected: shape, found: tensor.shape.clone() });
    }
    let values = match interleaved_heads {
        Some(heads) => Cow::Owned(interleave(&tensor.values, heads, head_dim)),
        None => Cow::Borrowed(tensor.values.as_slice()),
    };
    Ok(TensorSource { name: gguf, shape, grid, values })
}
