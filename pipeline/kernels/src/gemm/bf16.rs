//! Products of 16-bit brain floats with AVX-512's `vdpbf16ps`: a word holds two neighbours along the depth.

use std::arch::x86_64::*;

use pulp::x86::V4;

use super::avx512::{load, store, transposed};
use super::matrix::Matrix;
use super::{Kernel, Output, Tile};

const ROWS: usize = 14;
const COLUMNS: usize = 32;

/// The kernel. The proof is that of AVX-512; whoever makes one has seen `avx512bf16` too.
#[derive(Clone, Copy)]
pub(super) struct Avx512Bf16(pub(super) V4);

impl Kernel for Avx512Bf16 {
    fn rows(self) -> usize {
        ROWS
    }

    fn columns(self) -> usize {
        COLUMNS
    }

    fn values_per_word(self) -> usize {
        2
    }

    fn pack_left(self, left: Matrix<'_>, panels: &mut [f32]) {
        // SAFETY: the kernel exists only where the processor has these instructions.
        unsafe { pack(left, ROWS, left.columns.div_ceil(2), panels) }
    }

    fn pack_right(self, right: Matrix<'_>, panels: &mut [f32]) {
        // SAFETY: as above.
        unsafe { pack(right, COLUMNS, right.columns.div_ceil(2), panels) }
    }

    fn tile(self, left: &[f32], right: &[f32], output: &mut [f32], tile: Tile) {
        // SAFETY: as above.
        unsafe { multiply(left, right, output, tile) }
    }
}

/// Packs `width` rows at a time in lines of `width` words, `words` lines a panel.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) fn pack(matrix: Matrix<'_>, width: usize, words: usize, panels: &mut [f32]) {
    for (index, panel) in panels.chunks_exact_mut(width * words).enumerate() {
        let first = index * width;
        let block = matrix.block(first..(first + width).min(matrix.rows), 0..matrix.columns);
        let packed = if block.rows < width {
            0
        } else if block.row_stride == 1 {
            pair_lines(block, width, panel)
        } else if block.column_stride == 1 {
            turn_lines(block, width, panel)
        } else {
            0
        };
        for (word, line) in panel.chunks_exact_mut(width).enumerate().skip(packed) {
            for (row, value) in line.iter_mut().enumerate() {
                *value = word_of(block, row, word);
            }
        }
    }
}

/// The two values of a word, one rounding each; zero outside the matrix.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) fn word_of(matrix: Matrix<'_>, row: usize, word: usize) -> f32 {
    let value = |depth: usize| {
        if row < matrix.rows && depth < matrix.columns { matrix.value(row, depth) } else { 0.0 }
    };
    let lanes = words(_mm512_set1_ps(value(2 * word)), _mm512_set1_ps(value(2 * word + 1)));
    _mm512_cvtss_f32(lanes)
}

/// The panel's lines are contiguous in the source: two of them make one. Returns the lines that it wrote.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn pair_lines(block: Matrix<'_>, width: usize, panel: &mut [f32]) -> usize {
    let whole = block.columns / 2;
    for (word, line) in panel.chunks_exact_mut(width).enumerate().take(whole) {
        let (low, high) = (&block.from(0, 2 * word)[..width], &block.from(0, 2 * word + 1)[..width]);
        let mut rows = line.chunks_exact_mut(16).zip(low.chunks_exact(16).zip(high.chunks_exact(16)));
        for (line, (low, high)) in &mut rows {
            let line = line.first_chunk_mut().expect("sixteen values");
            store(line, words(load(low), load(high)));
        }
        let first = width / 16 * 16;
        let rest = ((1u32 << (width - first)) - 1) as u16;
        // SAFETY: the mask keeps to the values that are there.
        unsafe {
            let low = _mm512_maskz_loadu_ps(rest, low.as_ptr().wrapping_add(first));
            let high = _mm512_maskz_loadu_ps(rest, high.as_ptr().wrapping_add(first));
            _mm512_mask_storeu_ps(line.as_mut_ptr().wrapping_add(first), rest, words(low, high));
        }
    }
    whole
}

/// The panel's rows are contiguous in the source: 32 values of each of 16 rows make 16 lines. Returns the lines that it
/// wrote.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn turn_lines(block: Matrix<'_>, width: usize, panel: &mut [f32]) -> usize {
    let whole = block.columns / 32 * 16;
    for word in (0..whole).step_by(16) {
        for first in (0..width).step_by(16) {
            let rows = (width - first).min(16);
            let mut lines = [_mm512_setzero_ps(); 16];
            for (row, line) in lines.iter_mut().enumerate().take(rows) {
                *line = row_words(&block.from(first + row, 2 * word)[..32]);
            }
            let mask = ((1u32 << rows) - 1) as u16;
            for (i, line) in transposed(lines).into_iter().enumerate() {
                let target = &mut panel[(word + i) * width + first..][..rows];
                // SAFETY: the mask keeps to the values that are there.
                unsafe { _mm512_mask_storeu_ps(target.as_mut_ptr(), mask, line) }
            }
        }
    }
    whole
}

/// Sixteen words of 32 values in a row.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn row_words(values: &[f32]) -> __m512 {
    let bits = _mm512_cvtne2ps_pbh(load(&values[16..]), load(&values[..16]));
    // SAFETY: both types are 512 bits of anything.
    unsafe { std::mem::transmute::<__m512bh, __m512>(bits) }
}

/// Words of the low and the high values.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn words(low: __m512, high: __m512) -> __m512 {
    // SAFETY: both types are 512 bits of anything.
    let bits = unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) };
    // The low values are the first 16 of 16 bits, the high ones the last 16: interleave them.
    let low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(bits));
    let high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(bits));
    _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32::<16>(high)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn multiply(left: &[f32], right: &[f32], output: &mut [f32], tile: Tile) {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    let (left, right) = (left.as_chunks::<ROWS>().0, right.as_chunks::<COLUMNS>().0);
    for (left, right) in left.iter().zip(right) {
        let right = [pairs(load(&right[..16])), pairs(load(&right[16..]))];
        for row in 0..ROWS {
            let left = pairs(_mm512_set1_ps(left[row]));
            sums[row][0] = _mm512_dpbf16_ps(sums[row][0], left, right[0]);
            sums[row][1] = _mm512_dpbf16_ps(sums[row][1], left, right[1]);
        }
    }
    let masks = [0, 16].map(|first| ((1u32 << tile.columns.saturating_sub(first).min(16)) - 1) as u16);
    for (row, sums) in sums.into_iter().enumerate().take(tile.rows) {
        let line = &mut output[row * tile.row_stride..][..tile.columns];
        for (i, sum) in sums.into_iter().enumerate() {
            // SAFETY: the masks keep to the columns of the line.
            unsafe {
                let target = line.as_mut_ptr().wrapping_add(16 * i);
                let sum = match tile.output {
                    Output::Add => _mm512_add_ps(_mm512_maskz_loadu_ps(masks[i], target), sum),
                    Output::Replace => sum,
                };
                _mm512_mask_storeu_ps(target, masks[i], sum);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(words: __m512) -> __m512bh {
    // SAFETY: both types are 512 bits of anything.
    unsafe { std::mem::transmute::<__m512, __m512bh>(words) }
}
