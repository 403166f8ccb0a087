//! The container, from a file to metadata and tensors. Every length is checked against the file before it is believed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use limbeck_quant::Grid;

use super::value::{TensorType, Value, ValueType};
use super::{ALIGNMENT, MAGIC};
use crate::ExportError;

/// ggml's `GGML_MAX_DIMS`.
const MOST_DIMENSIONS: u32 = 4;

/// Arrays in arrays are read to this depth; nothing writes more than one.
const DEEPEST_ARRAY: u32 = 4;

/// Where a tensor lies and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub kind: TensorType,
    /// First byte, from the start of the file.
    offset: u64,
}

impl TensorInfo {
    /// Values in a row: the innermost dimension, along which blocks lie.
    fn row_size(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Bytes in the file; `None` when they are too many to count.
    fn bytes(&self, grid: Grid, name: &str) -> Result<Option<usize>, ExportError> {
        let row_bytes = grid.row_bytes(self.row_size()).map_err(ExportError::quant(name))?;
        Ok(self.shape.iter().rev().skip(1).try_fold(row_bytes, |bytes, size| bytes.checked_mul(*size)))
    }
}

/// An open file whose header was read; tensors are read when asked for.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    file: File,
    length: u64,
    /// All metadata, by key.
    pub metadata: BTreeMap<String, Value>,
    /// All tensors, by name.
    pub tensors: BTreeMap<String, TensorInfo>,
}

impl GgufFile {
    /// Opens a file of version 2 or 3 and reads its header.
    ///
    /// # Errors
    /// The file is not there, no GGUF, cut short, or written on a big-endian machine.
    pub fn open(path: &Path) -> Result<Self, ExportError> {
        let file = File::open(path).map_err(ExportError::read(path))?;
        let length = file.metadata().map_err(ExportError::read(path))?.len();
        let mut header = HeaderReader { path, length, offset: 0, reader: BufReader::new(&file) };
        let (metadata, tensors) = header.header()?;
        Ok(Self { path: path.to_owned(), file, length, metadata, tensors })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and decodes a tensor.
    ///
    /// # Shapes
    /// As many values as [`TensorInfo::shape`] says, row-major.
    ///
    /// # Errors
    /// The tensor is not there, of a type that this crate does not read, outside the file, or not finite.
    pub fn tensor(&self, name: &str) -> Result<Vec<f32>, ExportError> {
        let info = self.tensors.get(name).ok_or_else(|| ExportError::Missing(name.to_owned()))?;
        let TensorType::Grid(grid) = info.kind else {
            let rule = format!("must be one of {}", Grid::ALL.map(|grid| grid.to_string()).join(", "));
            let hint = "use a file of one of these types, or the Hugging Face directory that it was made from";
            return Err(ExportError::value(&self.path, name, &info.kind.to_string(), rule, hint));
        };
        let bytes = info.bytes(grid, name)?.filter(|bytes| (*bytes as u64) <= self.length.saturating_sub(info.offset));
        let Some(bytes) = bytes else {
            return Err(ExportError::Gguf { path: self.path.clone(), offset: info.offset, rule: too_short(name) });
        };
        let mut encoded = vec![0; bytes];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(info.offset)).map_err(ExportError::read(&self.path))?;
        file.read_exact(&mut encoded).map_err(ExportError::read(&self.path))?;
        grid.decode(&encoded, info.row_size()).map_err(ExportError::quant(name))
    }
}

fn too_short(name: &str) -> String {
    format!("tensor `{name}` must end within the file")
}

type Header = (BTreeMap<String, Value>, BTreeMap<String, TensorInfo>);

struct HeaderReader<'a, R> {
    path: &'a Path,
    length: u64,
    offset: u64,
    reader: R,
}

impl<R: Read> HeaderReader<'_, R> {
    fn header(&mut self) -> Result<Header, ExportError> {
        if self.bytes()? != MAGIC {
            return Err(self.invalid("the file must begin with `GGUF`"));
        }
        match self.u32()? {
            2 | 3 => {}
            version if version.swap_bytes() <= 3 => return Err(self.invalid("the byte order must be little-endian")),
            version => return Err(self.invalid(format!("the version is `{version}`, must be 2 or 3"))),
        }
        // A name, a number of dimensions, a type and an offset; a key, a type and a value.
        let tensor_count = self.count(8 + 4 + 4 + 8)?;
        let key_count = self.count(8 + 4 + 1)?;
        let metadata = self.metadata(key_count)?;
        let mut tensors = self.infos(tensor_count)?;
        self.place(&metadata, &mut tensors)?;
        Ok((metadata, tensors))
    }

    fn metadata(&mut self, count: u64) -> Result<BTreeMap<String, Value>, ExportError> {
        let mut metadata = BTreeMap::new();
        for _ in 0..count {
            let key = self.string()?;
            let kind = self.value_type()?;
            let value = self.value(kind, 0)?;
            if metadata.contains_key(&key) {
                return Err(self.invalid(format!("key `{key}` must be there once")));
            }
            metadata.insert(key, value);
        }
        Ok(metadata)
    }

    fn infos(&mut self, count: u64) -> Result<BTreeMap<String, TensorInfo>, ExportError> {
        let mut tensors = BTreeMap::new();
        for _ in 0..count {
            let name = self.string()?;
            let dimensions = self.u32()?;
            if dimensions == 0 || dimensions > MOST_DIMENSIONS {
                return Err(self.invalid(format!("tensor `{name}` has `{dimensions}` dimensions, must have 1 to 4")));
            }
            let mut shape = Vec::new();
            for _ in 0..dimensions {
                let size = self.u64()?;
                shape.push(usize::try_from(size).map_err(|_| self.invalid(format!("size `{size}` must fit memory")))?);
            }
            shape.reverse();
            let kind = TensorType::from_id(self.u32()?);
            let info = TensorInfo { shape, kind, offset: self.u64()? };
            if tensors.contains_key(&name) {
                return Err(self.invalid(format!("tensor `{name}` must be there once")));
            }
            tensors.insert(name, info);
        }
        Ok(tensors)
    }

    /// Turns offsets from the start of the data into offsets from the start of the file, and checks the ends.
    fn place(
        &mut self,
        metadata: &BTreeMap<String, Value>,
        tensors: &mut BTreeMap<String, TensorInfo>,
    ) -> Result<(), ExportError> {
        let alignment = match metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(Value::U32(alignment)) if alignment.is_power_of_two() => u64::from(*alignment),
            Some(value) => {
                return Err(self.invalid(format!("general.alignment is `{value}`, must be a power of two")));
            }
        };
        let data_start = self.offset.next_multiple_of(alignment);
        for (name, info) in tensors {
            let bytes = match info.kind {
                TensorType::Grid(grid) => info.bytes(grid, name)?.map(|bytes| bytes as u64),
                TensorType::Other(_) => Some(0), // refused when it is asked for
            };
            let start = data_start.checked_add(info.offset);
            let end = start.zip(bytes).and_then(|(start, bytes)| start.checked_add(bytes));
            match (start, end) {
                (Some(start), Some(end)) if end <= self.length => info.offset = start,
                _ => return Err(self.invalid(too_short(name))),
            }
        }
        Ok(())
    }

    fn value(&mut self, kind: ValueType, depth: u32) -> Result<Value, ExportError> {
        Ok(match kind {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.bytes()?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.bytes()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.bytes()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.bytes()?)),
            ValueType::U32 => Value::U32(self.u32()?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.bytes()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.bytes()?)),
            ValueType::Bool => match self.bytes()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [byte] => return Err(self.invalid(format!("a boolean is `{byte}`, must be 0 or 1"))),
            },
            ValueType::String => Value::String(self.string()?),
            ValueType::Array => self.array(depth)?,
            ValueType::U64 => Value::U64(self.u64()?),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.bytes()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.bytes()?)),
        })
    }

    fn array(&mut self, depth: u32) -> Result<Value, ExportError> {
        if depth == DEEPEST_ARRAY {
            return Err(self.invalid(format!("arrays must be nested at most {DEEPEST_ARRAY} deep")));
        }
        let element = self.value_type()?;
        let count = self.count(element.smallest_bytes())?;
        let values = (0..count).map(|_| self.value(element, depth + 1)).collect::<Result<_, _>>()?;
        Ok(Value::Array { element, values })
    }

    fn value_type(&mut self) -> Result<ValueType, ExportError> {
        let id = self.u32()?;
        ValueType::from_id(id).ok_or_else(|| self.invalid(format!("a value has type `{id}`, must be 0 to 12")))
    }

    fn string(&mut self) -> Result<String, ExportError> {
        let length = self.count(1)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.invalid("a text must be UTF-8"))
    }

    /// A number of things of at least `bytes` bytes each, which must all fit into the rest of the file.
    fn count(&mut self, bytes: u64) -> Result<u64, ExportError> {
        let count = self.u64()?;
        match count.checked_mul(bytes) {
            Some(total) if total <= self.length - self.offset => Ok(count),
            _ => Err(self.invalid(format!("a length is `{count}`, must fit into the rest of the file"))),
        }
    }

    fn u32(&mut self) -> Result<u32, ExportError> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ExportError> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], ExportError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ExportError> {
        if bytes.len() as u64 > self.length - self.offset {
            return Err(self.invalid("the file ends too early"));
        }
        self.reader.read_exact(bytes).map_err(ExportError::read(self.path))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn invalid(&self, rule: impl Into<String>) -> ExportError {
        ExportError::Gguf { path: self.path.to_owned(), offset: self.offset, rule: rule.into() }
    }
}
