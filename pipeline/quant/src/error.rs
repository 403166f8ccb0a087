//! What a grid refuses.

use crate::Grid;

/// Why values were not encoded, or bytes not decoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantError {
    /// A NaN or an infinity.
    #[error(
        "row {row}, column {column} is `{value}`, must be finite; hint: the training run diverged, export an earlier step"
    )]
    NotFinite {
        /// Row, counted from 0.
        row: usize,
        /// Column, counted from 0.
        column: usize,
        /// What is there.
        value: f32,
    },
    /// A finite value that the grid would turn into an infinity.
    #[error("row {row}, column {column} is `{value}`, the magnitude must be below `{limit}` for {grid}; hint: use F32")]
    TooLarge {
        /// The grid asked for.
        grid: Grid,
        /// Row, counted from 0.
        row: usize,
        /// Column, counted from 0.
        column: usize,
        /// What is there.
        value: f32,
        /// The first magnitude that does not fit.
        limit: f32,
    },
    /// A row that is not a whole number of blocks.
    #[error(
        "a row has `{row_size}` values, must be a positive multiple of `{block_size}` for {grid}; hint: use F16 for this \
         tensor"
    )]
    RowSize {
        /// The grid asked for.
        grid: Grid,
        /// Values in a row.
        row_size: usize,
        /// Values in a block of the grid.
        block_size: usize,
    },
    /// An importance that does not say how much each column matters.
    #[error(
        "the importance must be `{row_size}` finite numbers, none negative; hint: it was measured on another model, or on one \
         that diverged"
    )]
    Importance {
        /// Values in a row.
        row_size: usize,
    },
    /// A row that is not a whole number of MLX's groups.
    #[error(
        "a row has `{row_size}` values, must be a positive multiple of the group's `{group_size}`; hint: use F16 for this tensor"
    )]
    Groups {
        /// Values in a row.
        row_size: usize,
        /// Values in a group.
        group_size: usize,
    },
    /// Scales or biases that are not one a group.
    #[error(
        "`{scales}` scales and `{biases}` biases given, must be one each for `{groups}` groups; hint: the data are incomplete"
    )]
    GroupParts {
        /// Groups that the words make.
        groups: usize,
        /// Scales given.
        scales: usize,
        /// Biases given.
        biases: usize,
    },
    /// Values or bytes that are not a whole number of rows.
    #[error("`{found}` {unit} given, must be a multiple of the `{row}` {unit} of a row; hint: the data are incomplete")]
    PartialRow {
        /// `values`, `bytes` or `words`.
        unit: &'static str,
        /// How many were given.
        found: usize,
        /// How many a row has.
        row: usize,
    },
}

impl QuantError {
    /// The value at `index` of rows of `row_size` values.
    pub(crate) fn not_finite(index: usize, row_size: usize, value: f32) -> Self {
        Self::NotFinite { row: index / row_size, column: index % row_size, value }
    }
}
