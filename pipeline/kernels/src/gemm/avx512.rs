//! Packing with AVX-512's shuffles.

use std::arch::x86_64::*;

use pulp::x86::V4;

use super::matrix::Matrix;
use super::pack::pack;

/// See [`super::Kernel::pack`].
pub(super) fn pack_fp32<const WIDTH: usize>(_proof: V4, matrix: Matrix<'_>, panels: &mut [f32]) {
    // SAFETY: a `V4` exists only where the processor has these instructions.
    unsafe { pack_with_shuffles::<WIDTH>(matrix, panels) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn pack_with_shuffles<const WIDTH: usize>(matrix: Matrix<'_>, panels: &mut [f32]) {
    pack::<WIDTH>(matrix, panels, |source, stride, rows, target, width| turn(source, stride, rows, target, width));
}

/// Transposes `rows` x 16 values.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn turn(source: &[f32], stride: usize, rows: usize, target: &mut [f32], width: usize) {
    let mut lines = [_mm512_setzero_ps(); 16];
    for (row, line) in lines.iter_mut().enumerate().take(rows) {
        *line = load(&source[row * stride..][..16]);
    }
    for (depth, line) in transposed(lines).into_iter().enumerate() {
        // The values after the panel's own are written over with the next depth.
        match target[depth * width..].first_chunk_mut::<16>() {
            Some(target) => store(target, line),
            None => {
                let mut values = [0.0; 16];
                store(&mut values, line);
                target[depth * width..][..rows].copy_from_slice(&values[..rows]);
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
pub(super) fn load(values: &[f32]) -> __m512 {
    let values = values.first_chunk::<16>().expect("sixteen values");
    // SAFETY: the array has sixteen values.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
pub(super) fn store(target: &mut [f32; 16], values: __m512) {
    // SAFETY: the array has room for sixteen values.
    unsafe { _mm512_storeu_ps(target.as_mut_ptr(), values) }
}

/// The transpose of 16 x 16 values, in four rounds of shuffles.
#[target_feature(enable = "avx512f")]
pub(super) fn transposed(rows: [__m512; 16]) -> [__m512; 16] {
    let pairs: [__m512; 16] = std::array::from_fn(|i| {
        let (a, b) = (rows[i / 2 * 2], rows[i / 2 * 2 + 1]);
        if i % 2 == 0 { _mm512_unpacklo_ps(a, b) } else { _mm512_unpackhi_ps(a, b) }
    });
    let quads: [__m512; 16] = std::array::from_fn(|i| {
        let (a, b) =
            (_mm512_castps_pd(pairs[i / 4 * 4 + i % 4 / 2]), _mm512_castps_pd(pairs[i / 4 * 4 + i % 4 / 2 + 2]));
        _mm512_castpd_ps(if i % 2 == 0 { _mm512_unpacklo_pd(a, b) } else { _mm512_unpackhi_pd(a, b) })
    });
    // Here quads[4q + c] holds, in each 128-bit lane l, column 4l + c of the rows 4q ..= 4q + 3.
    let halves: [__m512; 16] = std::array::from_fn(|i| {
        let (a, b) = (quads[i / 8 * 8 + i % 4], quads[i / 8 * 8 + i % 4 + 4]);
        if i % 8 < 4 { _mm512_shuffle_f32x4::<0x88>(a, b) } else { _mm512_shuffle_f32x4::<0xdd>(a, b) }
    });
    std::array::from_fn(|i| {
        let (a, b) = (halves[i % 8], halves[i % 8 + 8]);
        if i < 8 { _mm512_shuffle_f32x4::<0x88>(a, b) } else { _mm512_shuffle_f32x4::<0xdd>(a, b) }
    })
}
