//! Q8_0: a scale and 32 signed bytes.

use crate::{BLOCK_SIZE, float};

/// A binary16 scale, then a code a value.
pub(crate) const BLOCK_BYTES: usize = 2 + BLOCK_SIZE;

/// A block whose largest magnitude reaches this has a scale of infinity.
pub(crate) const LIMIT: f32 = 127.0 * float::F16_LIMIT;

/// Encodes one block of finite values below [`LIMIT`].
///
/// The codes are computed with the scale in binary32 and the scale is rounded afterwards, as llama.cpp does: rounding
/// first would be a little more accurate and would give other bytes.
///
/// # Source
/// `quantize_row_q8_0_ref` of llama.cpp's `ggml-quants.c`: scale = max |x| / 127, code = round(x / scale), half away
/// from zero.
pub(crate) fn encode_block(values: &[f32; BLOCK_SIZE]) -> [u8; BLOCK_BYTES] {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = inverse(scale);
    let mut bytes = [0; BLOCK_BYTES];
    bytes[..2].copy_from_slice(&float::encode_f16(scale));
    for (byte, value) in bytes[2..].iter_mut().zip(values) {
        *byte = ((value * inverse).round() as i8).to_le_bytes()[0];
    }
    bytes
}

/// Decodes one block: value = scale × code.
pub(crate) fn decode_block(bytes: &[u8; BLOCK_BYTES]) -> [f32; BLOCK_SIZE] {
    let scale = float::decode_f16([bytes[0], bytes[1]]);
    let mut values = [0.0; BLOCK_SIZE];
    for (value, byte) in values.iter_mut().zip(&bytes[2..]) {
        *value = scale * f32::from(i8::from_le_bytes([*byte]));
    }
    values
}

/// 1 / scale, and 0 where that is infinite.
///
/// Scales below 2^-128 have no finite inverse; C leaves the codes undefined there. The stored scale is 0, so the codes
/// don't matter; zeros are what x86 gives.
fn inverse(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse.is_finite() { inverse } else { 0.0 }
}
