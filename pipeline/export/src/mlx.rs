//! A directory that mlx-lm and MLX Swift load: that of Hugging Face, with its matrices in groups of codes.
//!
//! A matrix `X.weight` becomes `X.weight`, `X.scales` and `X.biases`; vectors, and matrices whose rows are not whole
//! groups, are stored in 16 bits, which is what MLX computes in then. The files are those that `mlx_lm.convert
//! --quantize --dtype float16` makes of the Hugging Face directory, number for number.
//!
//! # Source
//! `quantize_model` and `load_model` in `mlx_lm/utils.py`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use limbeck_config::ModelConfig;
use limbeck_model::{HostTensor, NamedTensors, StoredTensor, TokenIds, save_stored, write_config};
use limbeck_quant::{AffineGrid, Grid};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::ExportError;

/// A matrix that is stored in 16 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Its name.
    pub tensor: String,
    /// Values in a row.
    pub input_size: usize,
    /// Values in a group, of which that is no multiple.
    pub group_size: usize,
}

impl fmt::Display for Unpacked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensor, input_size, group_size } = self;
        write!(
            formatter,
            "{tensor} is stored as F16: its rows of {input_size} values are not whole groups of {group_size}"
        )
    }
}

/// Writes `config.json`, `generation_config.json` and `model.safetensors` into `directory`, and gives the matrices that
/// are not on the grid.
///
/// # Shapes
/// `tensors`: Hugging Face's names and shapes, [output_size, input_size].
///
/// # Errors
/// A value that is not finite or too large for 16 bits; what the file system says.
pub fn write_mlx(
    directory: &Path,
    config: &ModelConfig,
    tensors: &NamedTensors,
    ids: &TokenIds,
    grid: AffineGrid,
) -> Result<Vec<Unpacked>, ExportError> {
    let (mut stored, mut unpacked) = (BTreeMap::new(), Vec::new());
    for (name, HostTensor { shape, values }) in tensors {
        match *shape.as_slice() {
            [rows, input_size] if input_size.is_multiple_of(grid.group_size()) => {
                pack(name, [rows, input_size], values, grid, &mut stored)?;
                continue;
            }
            [_, input_size] => {
                unpacked.push(Unpacked { tensor: name.clone(), input_size, group_size: grid.group_size() });
            }
            _ => (),
        }
        let row_size = shape.last().copied().unwrap_or(1);
        let bytes = Grid::F16.encode(values, row_size).map_err(ExportError::quant(name))?;
        stored.insert(name.clone(), StoredTensor { dtype: Dtype::F16, shape: shape.clone(), bytes });
    }
    write_config(config, ids, quantization(grid), directory)?;
    save_stored(&directory.join("model.safetensors"), &stored, "mlx")?;
    Ok(unpacked)
}

/// What `config.json` has besides. Older readers know the copy alone.
fn quantization(grid: AffineGrid) -> Map<String, Value> {
    let section = json!({ "group_size": grid.group_size(), "bits": grid.bits(), "mode": "affine" });
    let keys = [("dtype", json!("float16")), ("torch_dtype", json!("float16"))];
    let sections = ["quantization", "quantization_config"].map(|key| (key, section.clone()));
    keys.into_iter().chain(sections).map(|(key, value)| (key.to_owned(), value)).collect()
}

fn pack(
    name: &str,
    [rows, input_size]: [usize; 2],
    values: &[f32],
    grid: AffineGrid,
    stored: &mut BTreeMap<String, StoredTensor>,
) -> Result<(), ExportError> {
    let packed = grid.encode(values, input_size).map_err(ExportError::quant(name))?;
    let layer = name.strip_suffix(".weight").unwrap_or(name);
    let words = packed.words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let shape = vec![rows, input_size / grid.codes_in_word()];
    stored.insert(name.to_owned(), StoredTensor { dtype: Dtype::U32, shape, bytes: words });
    for (part, numbers) in [("scales", &packed.scales), ("biases", &packed.biases)] {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let shape = vec![rows, input_size / grid.group_size()];
        stored.insert(format!("{layer}.{part}"), StoredTensor { dtype: Dtype::F16, shape, bytes });
    }
    Ok(())
}
