//! Q4_0: a signed scale and 32 codes of 4 bits.

use crate::{BLOCK_SIZE, float};

/// A binary16 scale, then two codes a byte.
pub(crate) const BLOCK_BYTES: usize = 2 + BLOCK_SIZE / 2;

/// A block whose largest magnitude reaches this has a scale of infinity.
pub(crate) const LIMIT: f32 = 8.0 * float::F16_LIMIT;

/// Encodes one block of finite values below [`LIMIT`].
///
/// The value of the largest magnitude (the first, if there are several) gets code 0, which is −8 steps, so the sign of
/// the scale is the opposite of its sign. On the other side the grid ends at 7 steps: an equal value of the other sign
/// is off by a whole step.
///
/// # Source
/// `quantize_row_q4_0_ref` of llama.cpp's `ggml-quants.c`: scale = m / −8, code = min(15, trunc(x / scale + 8.5)); the
/// first half of the block is in the low nibbles, the second half in the high ones. One byte can differ: for a block of
/// zeros that starts with −0 the scale is +0 as in the `gguf` package, llama.cpp writes −0.
pub(crate) fn encode_block(values: &[f32; BLOCK_SIZE]) -> [u8; BLOCK_BYTES] {
    let largest = values.iter().fold(values[0], |m, value| if value.abs() > m.abs() { *value } else { m });
    encode_with_scale(values, largest / -8.0)
}

/// Encodes one block with the nearest codes of a given scale, which is rounded as it is stored, after the codes.
pub(crate) fn encode_with_scale(values: &[f32; BLOCK_SIZE], scale: f32) -> [u8; BLOCK_BYTES] {
    let mut bytes = [0; BLOCK_BYTES];
    bytes[..2].copy_from_slice(&float::encode_f16(scale));
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let (low, high) = values.split_at(BLOCK_SIZE / 2);
    for ((byte, low), high) in bytes[2..].iter_mut().zip(low).zip(high) {
        *byte = code(*low, inverse) | (code(*high, inverse) << 4);
    }
    bytes
}

/// Decodes one block: value = scale × (code − 8).
pub(crate) fn decode_block(bytes: &[u8; BLOCK_BYTES]) -> [f32; BLOCK_SIZE] {
    let scale = float::decode_f16([bytes[0], bytes[1]]);
    let mut values = [0.0; BLOCK_SIZE];
    let (low, high) = values.split_at_mut(BLOCK_SIZE / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&bytes[2..]) {
        *low = scale * (f32::from(byte & 0x0F) - 8.0);
        *high = scale * (f32::from(byte >> 4) - 8.0);
    }
    values
}

/// A scale of 0, with an inverse of 0 here, gives the middle code, 8. Scales below 2^-128 have no finite inverse and C leaves
/// their codes undefined: they get 0, as on x86; the stored scale is 0, so it does not matter.
fn code(value: f32, inverse: f32) -> u8 {
    if inverse.is_infinite() {
        return 0;
    }
    ((value * inverse + 8.5) as u8).min(15)
}
