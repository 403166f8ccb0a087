//! The container, from metadata and tensors to a file.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use limbeck_checkpoint::write_atomically_with;
use limbeck_quant::{Grid, QuantError};

use super::value::{Value, grid_id, write_string};
use super::{ALIGNMENT, MAGIC, VERSION};
use crate::ExportError;

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct TensorSource<'a> {
    /// Its name in the file.
    pub name: String,
    /// Sizes of the dimensions, outermost first; the file has them the other way round.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub grid: Grid,
    /// As many values as the shape says, row-major.
    pub values: Cow<'a, [f32]>,
    /// What each column matters, where the blocks are to be of the least error weighted with it.
    pub importance: Option<&'a [f32]>,
}

impl TensorSource<'_> {
    /// Values in a row: the innermost dimension, along which blocks lie.
    fn row_size(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    fn encode(&self) -> Result<Vec<u8>, QuantError> {
        match self.importance {
            None => self.grid.encode(&self.values, self.row_size()),
            Some(importance) => self.grid.encode_for(&self.values, self.row_size(), importance),
        }
    }

    /// Bytes in the file, without padding.
    fn bytes(&self) -> Result<u64, ExportError> {
        let row_bytes = self.grid.row_bytes(self.row_size()).map_err(ExportError::quant(&self.name))?;
        Ok(self.values.len() as u64 / self.row_size() as u64 * row_bytes as u64)
    }
}

/// Writes version 3 of the container; readers see the whole file or none.
///
/// The bytes are those that the `gguf` package writes for the same keys and tensors in the same order.
///
/// # Errors
/// A tensor whose values its grid refuses, or what the file system says; a file that was at `path` is as it was.
///
/// # Panics
/// If a tensor has another number of values than its shape says.
pub fn write_container(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[TensorSource<'_>],
) -> Result<(), ExportError> {
    let header = header(metadata, tensors)?;
    // The writer of atomic files knows the file system's errors; a refused tensor is kept beside it.
    let mut refused = None;
    let written = write_atomically_with(path, |temporary| {
        let mut file = File::create(temporary)?;
        file.write_all(&header)?;
        for tensor in tensors {
            match tensor.encode() {
                Ok(bytes) => write_padded(&mut file, bytes)?,
                Err(cause) => {
                    refused = Some(ExportError::Quant { name: tensor.name.clone(), cause });
                    return Err(io::Error::other("refused"));
                }
            }
        }
        Ok(())
    });
    match refused {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}

fn write_padded(file: &mut File, mut bytes: Vec<u8>) -> io::Result<()> {
    pad(&mut bytes);
    file.write_all(&bytes)
}

/// Everything before the first tensor: counts, metadata, names and places.
fn header(metadata: &[(String, Value)], tensors: &[TensorSource<'_>]) -> Result<Vec<u8>, ExportError> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        write_string(key, &mut bytes);
        bytes.extend((value.value_type() as u32).to_le_bytes());
        value.write(&mut bytes);
    }
    let mut offset = 0_u64;
    for tensor in tensors {
        assert_eq!(tensor.values.len(), tensor.shape.iter().product::<usize>(), "values of `{}`", tensor.name);
        write_string(&tensor.name, &mut bytes);
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|size| bytes.extend((*size as u64).to_le_bytes()));
        bytes.extend(grid_id(tensor.grid).to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset += tensor.bytes()?.next_multiple_of(ALIGNMENT);
    }
    pad(&mut bytes);
    Ok(bytes)
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
}
