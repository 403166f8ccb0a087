//! MLX's grids of mode `affine`: values that share a scale and a bias, their codes packed into words.

use half::f16;

use crate::{Grid, QuantError};

/// A grid of MLX: value = scale × code + bias, a scale and a bias for every group of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffineGrid {
    bits: u32,
    group_size: usize,
}

/// Rows on an [`AffineGrid`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AffineRows {
    /// Codes, the first one in the lowest bits.
    pub words: Vec<u32>,
    /// One a group; its sign is that of the way from the bias to the other end of the group.
    pub scales: Vec<f16>,
    /// One a group: its value of the largest magnitude, or 0.
    pub biases: Vec<f16>,
}

/// The smallest step between codes; MLX has it so that no scale is 0.
const SMALLEST_STEP: f32 = 1e-7;

impl AffineGrid {
    /// 4 bits in groups of 64, as mlx-lm quantises unless told otherwise: 4.5 bits a value.
    pub const Q4: Self = Self { bits: 4, group_size: 64 };
    /// 8 bits in groups of 64: 8.5 bits a value.
    pub const Q8: Self = Self { bits: 8, group_size: 64 };

    /// Codes of `bits` in groups of `group_size` values. `None` where codes do not fill words, or words do not fill
    /// groups: MLX's 3, 5 and 6 bits are packed otherwise.
    pub fn new(bits: u64, group_size: u64) -> Option<Self> {
        let (bits, group_size) = (u32::try_from(bits).ok()?, usize::try_from(group_size).ok()?);
        let grid = Self { bits, group_size };
        let fits = [2, 4, 8].contains(&bits) && group_size > 0 && group_size.is_multiple_of(grid.codes_in_word());
        fits.then_some(grid)
    }

    /// Bits of a code.
    pub const fn bits(self) -> u32 {
        self.bits
    }

    /// Values that share a scale and a bias.
    pub const fn group_size(self) -> usize {
        self.group_size
    }

    /// Codes in a word.
    pub const fn codes_in_word(self) -> usize {
        (u32::BITS / self.bits) as usize
    }

    /// Encodes rows of `row_size` values. They are rounded to binary16 first, so that the words are those of a model
    /// that was converted to binary16, as models for MLX are.
    ///
    /// # Shapes
    /// `values`: [rows, row_size]; the result: words [rows, row_size × bits / 32], scales and biases [rows, row_size /
    /// group_size].
    ///
    /// # Errors
    /// A row that is not a whole number of groups, a partial row, a value that is not finite or too large for binary16.
    ///
    /// # Source
    /// `quantize` in MLX's `mlx/backend/cpu/quantized.cpp`. MLX's GPU kernels round ties away from zero, and take 0 for the
    /// largest value of a group whose values are all negative.
    pub fn encode(self, values: &[f32], row_size: usize) -> Result<AffineRows, QuantError> {
        if row_size == 0 || !row_size.is_multiple_of(self.group_size) {
            return Err(QuantError::Groups { row_size, group_size: self.group_size });
        }
        if !values.len().is_multiple_of(row_size) {
            return Err(QuantError::PartialRow { unit: "values", found: values.len(), row: row_size });
        }
        Grid::F16.check_values(values, row_size)?;
        let mut rows = AffineRows::default();
        for group in values.chunks_exact(self.group_size) {
            let group: Vec<f32> = group.iter().map(|value| f16::from_f32(*value).to_f32()).collect();
            self.encode_group(&group, &mut rows);
        }
        Ok(rows)
    }

    /// The end of the group that is farther from zero gets code 0, and the scale is stretched until zero has a code
    /// too.
    fn encode_group(self, group: &[f32], rows: &mut AffineRows) {
        let largest_code = ((1_u32 << self.bits) - 1) as f32;
        let least = group.iter().copied().fold(f32::INFINITY, f32::min);
        let largest = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let step = ((largest - least) / largest_code).max(SMALLEST_STEP);
        let (edge, step) = if least.abs() > largest.abs() { (least, step) } else { (largest, -step) };
        let steps_to_zero = (edge / step).round_ties_even();
        let (scale, bias) = if steps_to_zero == 0.0 { (step, 0.0) } else { (edge / steps_to_zero, edge) };
        let code = |value: &f32| ((value - bias) / scale).round_ties_even().clamp(0.0, largest_code) as u32;
        for codes in group.chunks_exact(self.codes_in_word()) {
            rows.words.push(codes.iter().rev().fold(0, |word, value| word << self.bits | code(value)));
        }
        rows.scales.push(f16::from_f32(scale));
        rows.biases.push(f16::from_f32(bias));
    }

    /// Decodes rows of `row_size` values.
    ///
    /// # Shapes
    /// As of [`AffineGrid::encode`]; the result: [rows, row_size].
    ///
    /// # Errors
    /// A row that is not a whole number of groups, a partial row, a value that is not finite.
    pub fn decode(
        self,
        words: &[u32],
        scales: &[f32],
        biases: &[f32],
        row_size: usize,
    ) -> Result<Vec<f32>, QuantError> {
        if row_size == 0 || !row_size.is_multiple_of(self.group_size) {
            return Err(QuantError::Groups { row_size, group_size: self.group_size });
        }
        let words_in_group = self.group_size / self.codes_in_word();
        let words_in_row = row_size / self.codes_in_word();
        if !words.len().is_multiple_of(words_in_row) {
            return Err(QuantError::PartialRow { unit: "words", found: words.len(), row: words_in_row });
        }
        let groups = words.len() / words_in_group;
        if scales.len() != groups || biases.len() != groups {
            return Err(QuantError::GroupParts { groups, scales: scales.len(), biases: biases.len() });
        }
        let mask = (1 << self.bits) - 1;
        let mut values = Vec::with_capacity(words.len() * self.codes_in_word());
        for ((words, scale), bias) in words.chunks_exact(words_in_group).zip(scales).zip(biases) {
            for word in words {
                let codes = (0..u32::BITS).step_by(self.bits as usize).map(|shift| word >> shift & mask);
                values.extend(codes.map(|code| scale * code as f32 + bias));
            }
        }
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => Err(QuantError::not_finite(index, row_size, values[index])),
        }
    }
}
