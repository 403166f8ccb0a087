//! A whole model, to a file and back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use limbeck_config::ModelConfig;
use limbeck_model::{HostTensor, NamedTensors};
use limbeck_quant::{Grid, Place, Recipe, Stored};

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
    /// 4-bit blocks of 32; the output weights, which are the embedding where they are tied, Q6_K.
    Q4_0,
    /// llama.cpp's mix of that name: Q4_K; the output weights, and in half of the blocks values and down projection, Q6_K.
    Q4KM,
    /// The same with Q5_K.
    Q5KM,
    /// Q6_K everywhere.
    Q6K,
}

impl GgufType {
    /// llama.cpp's `llama_ftype`.
    pub(crate) const fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
            Self::Q4_0 => 2,
            Self::Q4KM => 15,
            Self::Q5KM => 17,
            Self::Q6K => 18,
        }
    }

    /// How llama.cpp's own quantizer would store the matrices (`llama_tensor_get_type`).
    pub const fn recipe(self) -> Recipe {
        match self {
            Self::F32 => Recipe::uniform(Grid::F32),
            Self::F16 => Recipe::uniform(Grid::F16),
            Self::Q8_0 => Recipe::uniform(Grid::Q8_0),
            Self::Q6K => Recipe::uniform(Grid::Q6K),
            Self::Q4_0 => Recipe::uniform(Grid::Q4_0).with_output(Grid::Q6K),
            Self::Q4KM => Self::mix(Grid::Q4K),
            Self::Q5KM => Self::mix(Grid::Q5K),
        }
    }

    const fn mix(grid: Grid) -> Recipe {
        Recipe { blocks: grid, sensitive: Grid::Q6K, embedding: grid, output: Grid::Q6K }
    }
}

/// How a file's matrices are stored, and how their blocks are found.
#[derive(Clone, Copy, Debug)]
pub struct Storage<'a> {
    /// The type of the file.
    pub kind: GgufType,
    /// The grid of each matrix: that of `kind`, or another one for the output weights.
    pub recipe: Recipe,
    /// What each column of a matrix matters, by Hugging Face's names; blocks are then of the least error weighted with it.
    pub importance: Option<&'a Importance>,
}

/// One number, not negative, a column of a matrix: such as the mean square of the input that meets it.
pub type Importance = BTreeMap<String, Vec<f32>>;

impl From<GgufType> for Storage<'_> {
    fn from(kind: GgufType) -> Self {
        Self { kind, recipe: kind.recipe(), importance: None }
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4KM => "Q4_K_M",
            Self::Q5KM => "Q5_K_M",
            Self::Q6K => "Q6_K",
        })
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
    /// How it would be stored.
    pub wanted: Grid,
    /// How it is stored.
    pub stored: Grid,
}

impl fmt::Display for Fallback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ref tensor, input_size, wanted, stored } = *self;
        write!(formatter, "{tensor} is stored as {}", Stored { wanted, grid: stored, row_size: input_size })
    }
}

/// Writes a model and its tokenizer to one file that llama.cpp loads.
///
/// # Shapes
/// `tensors`: Hugging Face's names and shapes, [output_size, input_size]. `lm_head.weight` is left out when the
/// embeddings are tied. `storage`: a [`GgufType`], or all of [`Storage`].
///
/// # Errors
/// A tensor that is missing, unknown, of another shape or not finite; a tokenizer that llama.cpp would read otherwise
/// or that has more tokens than the embedding has rows; what the file system says. A file at `path` is then as it was.
pub fn write_gguf<'a>(
    path: &Path,
    config: &ModelConfig,
    tensors: &'a NamedTensors,
    tokenizer_directory: &Path,
    storage: impl Into<Storage<'a>>,
) -> Result<GgufReport, ExportError> {
    let storage = storage.into();
    let kind = storage.kind;
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
        let stored = stored(&layout, storage.recipe, config);
        if let Some(Stored { wanted, grid, row_size: input_size }) = stored.filter(|stored| stored.falls_back()) {
            fallbacks.push(Fallback { tensor: layout.gguf.clone(), input_size, wanted, stored: grid });
        }
        let grid = stored.map_or(Grid::F32, |stored| stored.grid);
        sources.push(tensor_source(layout, grid, config.head_dim, tensors, storage.importance)?);
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

/// The shape that the file at `path` describes; its tensors are not decoded.
///
/// # Errors
/// As [`read_gguf`], of the metadata alone.
pub fn read_gguf_config(path: &Path) -> Result<ModelConfig, ExportError> {
    model_config(&GgufFile::open(path)?)
}

/// How a matrix is stored; `None` of a vector, which is always F32.
pub(crate) fn stored(layout: &TensorLayout, recipe: Recipe, config: &ModelConfig) -> Option<Stored> {
    let [_, input_size] = *layout.shape.as_slice() else { return None };
    let place = Place::of(&layout.hugging_face, config.num_hidden_layers, config.tie_word_embeddings);
    Some(recipe.stored(place, input_size))
}

fn tensor_source<'a>(
    layout: TensorLayout,
    grid: Grid,
    head_dim: usize,
    tensors: &'a NamedTensors,
    importance: Option<&'a Importance>,
) -> Result<TensorSource<'a>, ExportError> {
    let TensorLayout { hugging_face, gguf, shape, interleaved_heads } = layout;
    let Some(tensor) = tensors.get(&hugging_face) else { return Err(ExportError::Missing(hugging_face)) };
    if tensor.shape != shape {
        return Err(ExportError::Shape { name: hugging_face, expected: shape, found: tensor.shape.clone() });
    }
    let values = match interleaved_heads {
        Some(heads) => Cow::Owned(interleave(&tensor.values, heads, head_dim)),
        None => Cow::Borrowed(tensor.values.as_slice()),
    };
    // Of columns: the order of the rows does not matter to it.
    let importance = importance.and_then(|importance| importance.get(&hugging_face)).map(Vec::as_slice);
    Ok(TensorSource { name: gguf, shape, grid, values, importance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixes_are_llama_cpps() {
        let grids = |kind: GgufType| {
            let recipe = kind.recipe();
            [recipe.embedding, recipe.output, recipe.sensitive, recipe.blocks]
        };
        assert_eq!(grids(GgufType::Q4KM), [Grid::Q4K, Grid::Q6K, Grid::Q6K, Grid::Q4K]);
        assert_eq!(grids(GgufType::Q5KM), [Grid::Q5K, Grid::Q6K, Grid::Q6K, Grid::Q5K]);
        assert_eq!(grids(GgufType::Q4_0), [Grid::Q4_0, Grid::Q6K, Grid::Q4_0, Grid::Q4_0]);
        assert_eq!(grids(GgufType::Q8_0), [Grid::Q8_0; 4]);
    }
}
