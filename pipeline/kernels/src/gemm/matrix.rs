//! Matrices in somebody's buffer.

use std::ops::Range;

/// A matrix that is read: row-major, or the transpose of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` rows of `columns` values, one every `row_stride`.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || columns == 0 || values.len() >= (rows - 1) * row_stride + columns, "values of the matrix");
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    pub(crate) fn block(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "a block of the matrix");
        let start = rows.start * self.row_stride + columns.start * self.column_stride;
        Self { values: self.values.get(start..).unwrap_or(&[]), rows: rows.len(), columns: columns.len(), ..self }
    }

    /// The values from row `row` and column `column` on.
    #[inline(always)]
    pub(crate) fn from(&self, row: usize, column: usize) -> &'a [f32] {
        &self.values[row * self.row_stride + column * self.column_stride..]
    }

    /// The first value, from which the strides count.
    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.values.as_ptr()
    }

    #[inline(always)]
    pub(crate) fn value(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.row_stride + column * self.column_stride]
    }
}
