//! What the passes of attention over one row share: packed operands and blocks of queries.

use std::ops::Range;

use crate::attention_heads::Heads;
use crate::gemm::{Kernel, Matrix, room, words};

/// Queries of a block, about: a multiple of a tile's rows.
const QUERIES_PER_BLOCK: usize = 64;

/// The right operand of products, packed: `panels` of `row_length` words a row.
pub(crate) struct Packed {
    buffer: Vec<f32>,
    start: usize,
    panel: usize,
}

impl Packed {
    pub(crate) fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, panel: 1 }
    }

    /// Packs a right operand, of which it gets the transpose.
    pub(crate) fn pack(&mut self, kernel: impl Kernel, right: Matrix<'_>) {
        self.panel = kernel.columns() * words(kernel, right.columns);
        let length = right.rows.div_ceil(kernel.columns()) * self.panel;
        let panels = room(&mut self.buffer, length);
        kernel.pack_right(right, panels);
        let start = panels.as_ptr();
        self.start = (start as usize - self.buffer.as_ptr() as usize) / size_of::<f32>();
    }

    pub(crate) fn panels(&self) -> impl Iterator<Item = &[f32]> {
        self.buffer[self.start..].chunks_exact(self.panel)
    }

    /// The panels of the columns from `first` on, a multiple of a panel's columns.
    pub(crate) fn columns_from(&self, kernel: impl Kernel, first: usize) -> impl Iterator<Item = &[f32]> {
        self.panels().skip(first / kernel.columns())
    }

    /// All panels, cut to `row_length` words from the depth `first` on, a multiple of a panel's columns.
    pub(crate) fn depths(&self, kernel: impl Kernel, first: usize, row_length: usize) -> impl Iterator<Item = &[f32]> {
        let start = first / kernel.values_per_word() * kernel.columns();
        self.panels().map(move |panel| &panel[start..start + row_length * kernel.columns()])
    }
}

/// The blocks of a row's queries.
pub(crate) fn blocks(kernel: impl Kernel, sequence_length: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (QUERIES_PER_BLOCK / kernel.rows()).max(1) * kernel.rows();
    (0..sequence_length).step_by(size).map(move |start| start..(start + size).min(sequence_length))
}

impl Heads<'_> {
    /// The first key that a block of queries reads: segments follow one another and windows move on, so no later query sees an
    /// earlier key.
    pub(crate) fn first_key_of(&self, kernel: impl Kernel, queries: &Range<usize>) -> usize {
        self.first_key(queries.start) / kernel.columns() * kernel.columns()
    }

    pub(crate) fn values(&self, key_head: usize) -> Matrix<'_> {
        let values = &self.projected[self.value_column(key_head)..];
        Matrix::new(values, self.sequence_length(), self.layout.head_dim, self.width())
    }
}
