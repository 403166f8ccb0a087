//! Typed metadata, and the numbers that stand for types.

use std::fmt;

use limbeck_quant::Grid;

/// Types of metadata values; the discriminants are those of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ValueType {
    /// Unsigned, 8 bits.
    U8 = 0,
    /// Signed, 8 bits.
    I8 = 1,
    /// Unsigned, 16 bits.
    U16 = 2,
    /// Signed, 16 bits.
    I16 = 3,
    /// Unsigned, 32 bits.
    U32 = 4,
    /// Signed, 32 bits.
    I32 = 5,
    /// Float, 32 bits.
    F32 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// UTF-8 with a length of 64 bits.
    String = 8,
    /// A type, a length of 64 bits, that many values.
    Array = 9,
    /// Unsigned, 64 bits.
    U64 = 10,
    /// Signed, 64 bits.
    I64 = 11,
    /// Float, 64 bits.
    F64 = 12,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The type of that number in a file.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == id)
    }

    /// Bytes that a value has at least: what bounds the length of an array before memory is asked for.
    pub(crate) const fn smallest_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Unsigned, 8 bits.
    U8(u8),
    /// Signed, 8 bits.
    I8(i8),
    /// Unsigned, 16 bits.
    U16(u16),
    /// Signed, 16 bits.
    I16(i16),
    /// Unsigned, 32 bits.
    U32(u32),
    /// Signed, 32 bits.
    I32(i32),
    /// Float, 32 bits.
    F32(f32),
    /// A claim.
    Bool(bool),
    /// Text.
    String(String),
    /// Values of one type.
    Array {
        /// Their type.
        element: ValueType,
        /// The values.
        values: Vec<Self>,
    },
    /// Unsigned, 64 bits.
    U64(u64),
    /// Signed, 64 bits.
    I64(i64),
    /// Float, 64 bits.
    F64(f64),
}

impl Value {
    /// An array of texts.
    pub fn strings(texts: impl IntoIterator<Item = String>) -> Self {
        Self::Array { element: ValueType::String, values: texts.into_iter().map(Self::String).collect() }
    }

    /// An array of signed 32-bit integers.
    pub fn integers(integers: impl IntoIterator<Item = i32>) -> Self {
        Self::Array { element: ValueType::I32, values: integers.into_iter().map(Self::I32).collect() }
    }

    /// The type of the value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array { .. } => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// An integer of any width that is not negative.
    pub fn as_unsigned(&self) -> Option<u64> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::U64(value) => Some(value),
            Self::I8(value) => value.try_into().ok(),
            Self::I16(value) => value.try_into().ok(),
            Self::I32(value) => value.try_into().ok(),
            Self::I64(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// An integer of any width.
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::I8(value) => Some(value.into()),
            Self::I16(value) => Some(value.into()),
            Self::I32(value) => Some(value.into()),
            Self::I64(value) => Some(value),
            _ => self.as_unsigned().and_then(|value| value.try_into().ok()),
        }
    }

    /// Appends the value without its type. The elements of an array have no type of their own.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::U8(value) => bytes.push(*value),
            Self::I8(value) => bytes.extend(value.to_le_bytes()),
            Self::U16(value) => bytes.extend(value.to_le_bytes()),
            Self::I16(value) => bytes.extend(value.to_le_bytes()),
            Self::U32(value) => bytes.extend(value.to_le_bytes()),
            Self::I32(value) => bytes.extend(value.to_le_bytes()),
            Self::F32(value) => bytes.extend(value.to_le_bytes()),
            Self::Bool(value) => bytes.push(u8::from(*value)),
            Self::String(value) => write_string(value, bytes),
            Self::Array { element, values } => {
                bytes.extend((*element as u32).to_le_bytes());
                bytes.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| value.write(bytes));
            }
            Self::U64(value) => bytes.extend(value.to_le_bytes()),
            Self::I64(value) => bytes.extend(value.to_le_bytes()),
            Self::F64(value) => bytes.extend(value.to_le_bytes()),
        }
    }
}

/// For messages: arrays by their length.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(value) => value.fmt(formatter),
            Self::I8(value) => value.fmt(formatter),
            Self::U16(value) => value.fmt(formatter),
            Self::I16(value) => value.fmt(formatter),
            Self::U32(value) => value.fmt(formatter),
            Self::I32(value) => value.fmt(formatter),
            Self::F32(value) => value.fmt(formatter),
            Self::Bool(value) => value.fmt(formatter),
            Self::String(value) => value.fmt(formatter),
            Self::Array { element, values } => write!(formatter, "{} values of type {element:?}", values.len()),
            Self::U64(value) => value.fmt(formatter),
            Self::I64(value) => value.fmt(formatter),
            Self::F64(value) => value.fmt(formatter),
        }
    }
}

/// Appends the length in bytes and the text.
pub(crate) fn write_string(text: &str, bytes: &mut Vec<u8>) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorType {
    /// A grid that this crate reads and writes.
    Grid(Grid),
    /// Another of ggml's types, by its number.
    Other(u32),
}

impl TensorType {
    /// The type of that number in a file.
    pub fn from_id(id: u32) -> Self {
        Grid::ALL.into_iter().find(|grid| grid_id(*grid) == id).map_or(Self::Other(id), Self::Grid)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Grid(grid) => return grid.fmt(formatter),
            Self::Other(10) => "Q2_K",
            Self::Other(11) => "Q3_K",
            Self::Other(15) => "Q8_K",
            Self::Other(20) => "IQ4_NL",
            Self::Other(23) => "IQ4_XS",
            Self::Other(id) => return write!(formatter, "ggml type {id}"),
        };
        formatter.write_str(name)
    }
}

/// The number of a grid in a file: `ggml_type`.
pub(crate) const fn grid_id(grid: Grid) -> u32 {
    match grid {
        Grid::F32 => 0,
        Grid::F16 => 1,
        Grid::Q4_0 => 2,
        Grid::Q4_1 => 3,
        Grid::Q5_0 => 6,
        Grid::Q5_1 => 7,
        Grid::Q8_0 => 8,
        Grid::Q4K => 12,
        Grid::Q5K => 13,
        Grid::Q6K => 14,
        Grid::BF16 => 30,
    }
}
