//! The two 16-bit floats.

use half::{bf16, f16};

/// Halfway between the largest binary16, 65504, and the next step, which is not there: a tie, and ties go to even, here
/// to infinity.
pub(crate) const F16_LIMIT: f32 = 65520.0;

/// Halfway between the largest bfloat16, 0x7F7F, and infinity.
pub(crate) const BF16_LIMIT: f32 = f32::from_bits(0x7F7F_8000);

pub(crate) fn encode_f16(value: f32) -> [u8; 2] {
    f16::from_f32(value).to_le_bytes()
}

pub(crate) fn decode_f16(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

pub(crate) fn encode_bf16(value: f32) -> [u8; 2] {
    bf16::from_f32(value).to_le_bytes()
}

pub(crate) fn decode_bf16(bytes: [u8; 2]) -> f32 {
    bf16::from_le_bytes(bytes).to_f32()
}
