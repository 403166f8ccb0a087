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
        let Self { tensor, input_size, wanted, stored } = self;
        let size = wanted.block_size();
        write!(
            formatter,
            "{tensor} is stored as {stored}, not {wanted}: its rows of {input_size} values are not whole blocks of {size}"
        )
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
        let wanted = wanted_grid(&layout.gguf, kind, config);
        let grid = stored_grid(&layout.shape, wanted);
        if let [_, input_size] = *layout.shape.as_slice()
            && grid != wanted
        {
            fallbacks.push(Fallback { tensor: layout.gguf.clone(), input_size, wanted, stored: grid });
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

/// The shape that the file at `path` describes; its tensors are not decoded.
///
/// # Errors
/// As [`read_gguf`], of the metadata alone.
pub fn read_gguf_config(path: &Path) -> Result<ModelConfig, ExportError> {
    model_config(&GgufFile::open(path)?)
}

/// How llama.cpp's own quantizer would store the matrix `name` (`llama_tensor_get_type`, without an importance matrix).
pub(crate) fn wanted_grid(name: &str, kind: GgufType, config: &ModelConfig) -> Grid {
    let grid = match kind {
        GgufType::F32 => return Grid::F32,
        GgufType::F16 => return Grid::F16,
        GgufType::Q8_0 => return Grid::Q8_0,
        GgufType::Q6K => return Grid::Q6K,
        GgufType::Q4_0 => Grid::Q4_0,
        GgufType::Q4KM => Grid::Q4K,
        GgufType::Q5KM => Grid::Q5K,
    };
    let mixed = kind != GgufType::Q4_0 && is_sensitive(name, config.num_hidden_layers);
    if is_output(name, config) || mixed { Grid::Q6K } else { grid }
}

fn is_output(name: &str, config: &ModelConfig) -> bool {
    name == if config.tie_word_embeddings { "token_embd.weight" } else { "output.weight" }
}

/// Values and down projection of the first and the last eighth of the blocks and of every third between: `use_more_bits`.
fn is_sensitive(name: &str, blocks: usize) -> bool {
    let Some((block, matrix)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else { return false };
    let Ok(block) = block.parse::<usize>() else { return false };
    let eighth = blocks / 8;
    let more = block < eighth || block >= 7 * blocks / 8 || (block - eighth) % 3 == 2;
    more && ["attn_v.weight", "ffn_down.weight"].contains(&matrix)
}

/// How a tensor is stored: vectors in F32, matrices as wanted where their rows are whole blocks.
pub(crate) fn stored_grid(shape: &[usize], wanted: Grid) -> Grid {
    match *shape {
        [_, input_size] => fitting_grid(wanted, input_size),
        _ => Grid::F32,
    }
}

/// What llama.cpp's quantizer falls back to where rows are not whole blocks.
fn fitting_grid(wanted: Grid, input_size: usize) -> Grid {
    let fits = |grid: &Grid| input_size.is_multiple_of(grid.block_size());
    let smaller = match wanted {
        Grid::Q4K => Grid::Q5_0,
        Grid::Q5K => Grid::Q5_1,
        Grid::Q6K => Grid::Q8_0,
        other => other,
    };
    [wanted, smaller].into_iter().find(fits).unwrap_or(Grid::F16)
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

#[cfg(test)]
mod tests {
    use super::*;
    use limbeck_config::Architecture;

    fn config(num_hidden_layers: usize, tie_word_embeddings: bool) -> ModelConfig {
        ModelConfig {
            architecture: Architecture::Llama,
            vocab_size: 500,
            hidden_size: 256,
            intermediate_size: 768,
            num_hidden_layers,
            num_attention_heads: 8,
            num_key_value_heads: 2,
            head_dim: 64,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            tie_word_embeddings,
            max_position_embeddings: 64,
        }
    }

    /// The blocks whose down projection has 6 bits in files that llama.cpp's own quantizer made of models with as many.
    #[test]
    fn the_mixes_are_llama_cpps() {
        let sensitive = |blocks: usize| {
            let config = config(blocks, true);
            let name = |block: &usize| format!("blk.{block}.ffn_down.weight");
            let six = |block: &usize| wanted_grid(&name(block), GgufType::Q4KM, &config) == Grid::Q6K;
            (0..blocks).filter(six).collect::<Vec<_>>()
        };
        assert_eq!(sensitive(8), [0, 3, 6, 7]);
        assert_eq!(sensitive(32), [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        let grids = |kind, tied| {
            let config = config(8, tied);
            let names = ["token_embd.weight", "output.weight", "blk.0.attn_v.weight", "blk.0.attn_q.weight"];
            names.map(|name| wanted_grid(name, kind, &config))
        };
        assert_eq!(grids(GgufType::Q4KM, true)[..1], [Grid::Q6K]);
        assert_eq!(grids(GgufType::Q4KM, false), [Grid::Q4K, Grid::Q6K, Grid::Q6K, Grid::Q4K]);
        assert_eq!(grids(GgufType::Q5KM, false), [Grid::Q5K, Grid::Q6K, Grid::Q6K, Grid::Q5K]);
        assert_eq!(grids(GgufType::Q4_0, false), [Grid::Q4_0, Grid::Q6K, Grid::Q4_0, Grid::Q4_0]);
        assert_eq!(grids(GgufType::Q8_0, true), [Grid::Q8_0; 4]);
    }

    #[test]
    fn rows_that_do_not_fit_fall_back_as_llama_cpps_do() {
        let fallbacks = [Grid::Q4K, Grid::Q5K, Grid::Q6K, Grid::Q4_0, Grid::Q8_0];
        assert_eq!(fallbacks.map(|grid| fitting_grid(grid, 512)), fallbacks);
        let shorter = [Grid::Q5_0, Grid::Q5_1, Grid::Q8_0, Grid::Q4_0, Grid::Q8_0];
        assert_eq!(fallbacks.map(|grid| fitting_grid(grid, 96)), shorter);
        assert_eq!(fallbacks.map(|grid| fitting_grid(grid, 30)), [Grid::F16; 5]);
    }
}
