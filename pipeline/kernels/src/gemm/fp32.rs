//! Products of 32-bit floats, or of such that were rounded to 16-bit ones where no instruction takes these.

use half::bf16;
use pulp::bytemuck;
use pulp::{Simd, WithSimd};

#[cfg(target_arch = "x86_64")]
use super::avx512::pack_fp32;
use super::matrix::Matrix;
use super::pack::{pack, turn_portably};
use super::{Kernel, Output, Tile};
use crate::level::{Level, vectorized};

/// Vectors in a row of a tile.
const VECTORS: usize = 2;
/// Rows of a tile where there are 32 vector registers: 28 sums, two right vectors, one left value.
const ROWS_OF_32: usize = 14;
/// Rows of a tile where there are 16.
const ROWS_OF_16: usize = 6;

/// The kernel of a level.
#[derive(Clone, Copy)]
pub(super) struct Fp32 {
    pub(super) level: Level,
    /// Whether packing rounds to 16-bit brain floats.
    pub(super) rounded: bool,
}

impl Fp32 {
    fn round(self, panels: &mut [f32]) {
        if self.rounded {
            vectorized(
                #[inline(always)]
                || panels.iter_mut().for_each(|value| *value = rounded(*value)),
            );
        }
    }
}

/// The nearest 16-bit brain float, ties to even. NaN stays NaN.
#[inline(always)]
pub(crate) fn rounded_half(value: f32) -> bf16 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    bf16::from_bits((if value.is_nan() { bits | 0x0040_0000 } else { nearest } >> 16) as u16)
}

/// [`rounded_half`] in 32 bits.
#[inline(always)]
pub(super) fn rounded(value: f32) -> f32 {
    f32::from_bits(u32::from(rounded_half(value).to_bits()) << 16)
}

impl Kernel for Fp32 {
    fn rows(self) -> usize {
        self.level.run(Rows)
    }

    fn columns(self) -> usize {
        self.level.run(Columns)
    }

    fn values_per_word(self) -> usize {
        1
    }

    fn pack_left(self, left: Matrix<'_>, panels: &mut [f32]) {
        match self.level {
            #[cfg(target_arch = "x86_64")]
            Level::Amx(simd) | Level::Avx512Bf16(simd) | Level::Avx512(simd) => {
                pack_fp32::<ROWS_OF_32>(simd, left, panels);
            }
            level => level.run(Pack { matrix: left, panels: &mut *panels, width: self.rows() }),
        }
        self.round(panels);
    }

    fn pack_right(self, right: Matrix<'_>, panels: &mut [f32]) {
        match self.level {
            #[cfg(target_arch = "x86_64")]
            Level::Amx(simd) | Level::Avx512Bf16(simd) | Level::Avx512(simd) => pack_fp32::<32>(simd, right, panels),
            level => level.run(Pack { matrix: right, panels: &mut *panels, width: self.columns() }),
        }
        self.round(panels);
    }

    fn tile(self, left: &[f32], right: &[f32], output: &mut [f32], tile: Tile) {
        self.level.run(Multiply { left, right, output, tile });
    }
}

struct Rows;

impl WithSimd for Rows {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> usize {
        if S::REGISTER_COUNT >= 32 { ROWS_OF_32 } else { ROWS_OF_16 }
    }
}

struct Columns;

impl WithSimd for Columns {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> usize {
        VECTORS * S::F32_LANES
    }
}

/// Panels of `width` rows, which is one of the widths above.
struct Pack<'a, 'b> {
    matrix: Matrix<'a>,
    panels: &'b mut [f32],
    width: usize,
}

impl WithSimd for Pack<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { matrix, panels, width } = self;
        match width {
            ROWS_OF_32 => pack::<ROWS_OF_32>(matrix, panels, turn_portably),
            ROWS_OF_16 => pack::<ROWS_OF_16>(matrix, panels, turn_portably),
            32 => pack::<32>(matrix, panels, turn_portably),
            16 => pack::<16>(matrix, panels, turn_portably),
            8 => pack::<8>(matrix, panels, turn_portably),
            _ => pack::<VECTORS>(matrix, panels, turn_portably),
        }
    }
}

struct Multiply<'a, 'b> {
    left: &'a [f32],
    right: &'a [f32],
    output: &'b mut [f32],
    tile: Tile,
}

impl WithSimd for Multiply<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { left, right, output, tile } = self;
        if S::REGISTER_COUNT >= 32 {
            store::<S, ROWS_OF_32>(simd, sums(simd, left, right), output, tile);
        } else {
            store::<S, ROWS_OF_16>(simd, sums(simd, left, right), output, tile);
        }
    }
}

/// `a · b + c`. Without an instruction for it, the product is rounded: a call of a function would cost tenfold.
#[inline(always)]
pub(crate) fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if cfg!(target_arch = "x86_64") && S::F32_LANES < 8 {
        simd.add_f32s(simd.mul_f32s(a, b), c)
    } else {
        simd.mul_add_e_f32s(a, b, c)
    }
}

/// `left · right` of one pair of panels, in registers.
#[inline(always)]
fn sums<S: Simd, const ROWS: usize>(simd: S, left: &[f32], right: &[f32]) -> [[S::f32s; VECTORS]; ROWS] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    let (left, _) = left.as_chunks::<ROWS>();
    let (right, _) = S::as_simd_f32s(right).0.as_chunks::<VECTORS>();
    for (left, right) in left.iter().zip(right) {
        for row in 0..ROWS {
            let value = simd.splat_f32s(left[row]);
            for vector in 0..VECTORS {
                sums[row][vector] = multiply_add(simd, value, right[vector], sums[row][vector]);
            }
        }
    }
    sums
}

#[inline(always)]
fn store<S: Simd, const ROWS: usize>(simd: S, sums: [[S::f32s; VECTORS]; ROWS], output: &mut [f32], tile: Tile) {
    if tile.rows == ROWS && tile.columns == VECTORS * S::F32_LANES {
        for (row, sums) in sums.iter().enumerate() {
            let line = &mut output[row * tile.row_stride..][..VECTORS * S::F32_LANES];
            let line = S::as_mut_simd_f32s(line).0;
            for (value, sum) in line.iter_mut().zip(sums) {
                *value = if tile.output == Output::Add { simd.add_f32s(*value, *sum) } else { *sum };
            }
        }
    } else {
        for (row, sums) in sums.iter().take(tile.rows).enumerate() {
            let line = &mut output[row * tile.row_stride..][..tile.columns];
            for (value, sum) in line.iter_mut().zip(bytemuck::cast_slice::<S::f32s, f32>(sums)) {
                *value = if tile.output == Output::Add { *value + sum } else { *sum };
            }
        }
    }
}
