//! Which grid, its sizes, and whole rows to and from bytes.

use std::fmt;

use candle_core::quantized::GgmlDType;

use crate::candle::{self, K_BLOCK_SIZE};
use crate::tasks::each;
use crate::{BLOCK_SIZE, QuantError, float, q4_0, q4_0_weighted, q8_0};

/// A way to store numbers; the names are ggml's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grid {
    /// IEEE 754 binary32, little-endian.
    F32,
    /// IEEE 754 binary16, little-endian, rounded to nearest, ties to even.
    F16,
    /// The upper half of a binary32, rounded to nearest, ties to even.
    BF16,
    /// Blocks of 32: a binary16 scale and 32 codes of 8 bits. 8.5 bits a value.
    Q8_0,
    /// Blocks of 32: a binary16 scale and 32 codes of 4 bits. 4.5 bits a value.
    Q4_0,
    /// Blocks of 32: a binary16 scale, a binary16 minimum and 32 codes of 4 bits. 5 bits a value.
    Q4_1,
    /// Blocks of 32: a binary16 scale and 32 codes of 5 bits. 5.5 bits a value.
    Q5_0,
    /// Blocks of 32: a binary16 scale, a binary16 minimum and 32 codes of 5 bits. 6 bits a value.
    Q5_1,
    /// ggml's Q4_K. Blocks of 256: codes of 4 bits, a scale and a minimum of 6 bits for every 32. 4.5 bits a value.
    Q4K,
    /// ggml's Q5_K. As Q4_K with codes of 5 bits. 5.5 bits a value.
    Q5K,
    /// ggml's Q6_K. Blocks of 256: codes of 6 bits, a scale of 8 bits for every 16. 6.5625 bits a value.
    Q6K,
}

impl Grid {
    /// Every grid.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Values in the smallest unit that can be stored alone.
    pub const fn block_size(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => BLOCK_SIZE,
            Self::Q4K | Self::Q5K | Self::Q6K => K_BLOCK_SIZE,
        }
    }

    /// Bytes of such a unit.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q8_0 => q8_0::BLOCK_BYTES,
            Self::Q4_0 => q4_0::BLOCK_BYTES,
            Self::Q4_1 => 2 * 2 + BLOCK_SIZE / 2,
            // The fifth bits are apart.
            Self::Q5_0 => 2 + BLOCK_SIZE / 8 + BLOCK_SIZE / 2,
            Self::Q5_1 => 2 * 2 + BLOCK_SIZE / 8 + BLOCK_SIZE / 2,
            // Two scales, 12 bytes of packed scales and minima, the codes.
            Self::Q4K => 2 * 2 + 12 + K_BLOCK_SIZE / 2,
            Self::Q5K => 2 * 2 + 12 + K_BLOCK_SIZE / 2 + K_BLOCK_SIZE / 8,
            // The codes, 16 scales, their scale.
            Self::Q6K => 3 * K_BLOCK_SIZE / 4 + K_BLOCK_SIZE / 16 + 2,
        }
    }

    /// Bytes of a row of `row_size` values.
    ///
    /// # Errors
    /// [`QuantError::RowSize`] when the row is empty or not a whole number of blocks.
    pub fn row_bytes(self, row_size: usize) -> Result<usize, QuantError> {
        let error = QuantError::RowSize { grid: self, row_size, block_size: self.block_size() };
        if row_size == 0 || !row_size.is_multiple_of(self.block_size()) {
            return Err(error);
        }
        (row_size / self.block_size()).checked_mul(self.block_bytes()).ok_or(error)
    }

    /// The first magnitude that is refused. In grids of this crate it is the first that becomes an infinity: of the value
    /// itself, or of its block's scale; in candle's, the first that is none in binary16.
    pub fn limit(self) -> f32 {
        match self {
            Self::F32 => f32::INFINITY,
            Self::F16 => float::F16_LIMIT,
            Self::BF16 => float::BF16_LIMIT,
            Self::Q8_0 => q8_0::LIMIT,
            Self::Q4_0 => q4_0::LIMIT,
            Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q4K | Self::Q5K | Self::Q6K => candle::LIMIT,
        }
    }

    /// Encodes rows of `row_size` values.
    ///
    /// # Shapes
    /// `values`: [rows, row_size]; the result: [rows, `row_bytes(row_size)`].
    ///
    /// # Errors
    /// A row that is not a whole number of blocks, a partial row, a value that is not finite or too large.
    pub fn encode(self, values: &[f32], row_size: usize) -> Result<Vec<u8>, QuantError> {
        let row_bytes = self.row_bytes(row_size)?;
        if !values.len().is_multiple_of(row_size) {
            return Err(QuantError::PartialRow { unit: "values", found: values.len(), row: row_size });
        }
        self.check_values(values, row_size)?;
        let bytes = match self {
            Self::F32 => each(values, |[value]| value.to_le_bytes()),
            Self::F16 => each(values, |[value]| float::encode_f16(*value)),
            Self::BF16 => each(values, |[value]| float::encode_bf16(*value)),
            Self::Q8_0 => each(values, q8_0::encode_block),
            Self::Q4_0 => each(values, q4_0::encode_block),
            Self::Q4_1 => candle::encode(GgmlDType::Q4_1, values),
            Self::Q5_0 => candle::encode(GgmlDType::Q5_0, values),
            Self::Q5_1 => candle::encode(GgmlDType::Q5_1, values),
            Self::Q4K => candle::encode(GgmlDType::Q4K, values),
            Self::Q5K => candle::encode(GgmlDType::Q5K, values),
            Self::Q6K => candle::encode(GgmlDType::Q6K, values),
        };
        debug_assert_eq!(bytes.len(), values.len() / row_size * row_bytes);
        Ok(bytes)
    }

    /// [`Grid::encode`] for the least error of what the rows are multiplied with: every value's squared error counts as much as
    /// the importance of its column, such as the mean square of the input that meets it.
    ///
    /// No block has a larger error by that measure than [`Grid::encode`] gives it. Q4_0's scale is the best one there is, up
    /// to the rounding of the scale itself; K-quants take candle's search with an importance matrix where it is better. The other grids
    /// have no use for it, as in llama.cpp, and are encoded as always.
    ///
    /// # Shapes
    /// `values`: [rows, row_size]; `importance`: [row_size]
    ///
    /// # Errors
    /// Those of [`Grid::encode`]; an importance that is not one a column, negative or not finite.
    pub fn encode_for(self, values: &[f32], row_size: usize, importance: &[f32]) -> Result<Vec<u8>, QuantError> {
        let plain = self.encode(values, row_size)?;
        if importance.len() != row_size || importance.iter().any(|weight| !weight.is_finite() || *weight < 0.0) {
            return Err(QuantError::Importance { row_size });
        }
        Ok(match self {
            Self::Q4_0 => q4_0_weighted::encode(values, importance, plain),
            Self::Q4K => candle::encode_for(GgmlDType::Q4K, values, importance, plain),
            Self::Q5K => candle::encode_for(GgmlDType::Q5K, values, importance, plain),
            Self::Q6K => candle::encode_for(GgmlDType::Q6K, values, importance, plain),
            Self::F32 | Self::F16 | Self::BF16 | Self::Q8_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => plain,
        })
    }

    /// What is read back of rows that were stored: [`Grid::encode`], then [`Grid::decode`].
    ///
    /// # Errors
    /// Those of the two.
    pub fn round_trip(self, values: &[f32], row_size: usize) -> Result<Vec<f32>, QuantError> {
        self.decode(&self.encode(values, row_size)?, row_size)
    }

    /// What llama.cpp's quantizer takes instead where rows of `row_size` values are not whole blocks: a grid with shorter
    /// ones, or F16.
    pub fn fitting(self, row_size: usize) -> Self {
        let fits = |grid: &Self| row_size.is_multiple_of(grid.block_size());
        let shorter = match self {
            Self::Q4K => Self::Q5_0,
            Self::Q5K => Self::Q5_1,
            Self::Q6K => Self::Q8_0,
            other => other,
        };
        [self, shorter].into_iter().find(fits).unwrap_or(Self::F16)
    }

    /// Decodes rows of `row_size` values.
    ///
    /// # Shapes
    /// `bytes`: [rows, `row_bytes(row_size)`]; the result: [rows, row_size].
    ///
    /// # Errors
    /// A row that is not a whole number of blocks, a partial row, a stored value or scale that is not finite.
    pub fn decode(self, bytes: &[u8], row_size: usize) -> Result<Vec<f32>, QuantError> {
        let row_bytes = self.row_bytes(row_size)?;
        if !bytes.len().is_multiple_of(row_bytes) {
            return Err(QuantError::PartialRow { unit: "bytes", found: bytes.len(), row: row_bytes });
        }
        let values = match self {
            Self::F32 => each(bytes, |word| [f32::from_le_bytes(*word)]),
            Self::F16 => each(bytes, |word| [float::decode_f16(*word)]),
            Self::BF16 => each(bytes, |word| [float::decode_bf16(*word)]),
            Self::Q8_0 => each(bytes, q8_0::decode_block),
            Self::Q4_0 => each(bytes, q4_0::decode_block),
            Self::Q4_1 => candle::decode(GgmlDType::Q4_1, bytes),
            Self::Q5_0 => candle::decode(GgmlDType::Q5_0, bytes),
            Self::Q5_1 => candle::decode(GgmlDType::Q5_1, bytes),
            Self::Q4K => candle::decode(GgmlDType::Q4K, bytes),
            Self::Q5K => candle::decode(GgmlDType::Q5K, bytes),
            Self::Q6K => candle::decode(GgmlDType::Q6K, bytes),
        };
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => Err(QuantError::not_finite(index, row_size, values[index])),
        }
    }

    /// Refuses what the grid would turn into a NaN or an infinity.
    pub(crate) fn check_values(self, values: &[f32], row_size: usize) -> Result<(), QuantError> {
        let limit = self.limit();
        let Some(index) = values.iter().position(|value| !value.is_finite() || value.abs() >= limit) else {
            return Ok(());
        };
        let value = values[index];
        if !value.is_finite() {
            return Err(QuantError::not_finite(index, row_size, value));
        }
        Err(QuantError::TooLarge { grid: self, row: index / row_size, column: index % row_size, value, limit })
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        })
    }
}
