//! The blocks that candle encodes and decodes.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{CpuStorage, Device, Error, Tensor};

use crate::float;
use crate::tasks::{shared, weighted_error};

/// Values in a block of K-quants: ggml's `QK_K`.
pub(crate) const K_BLOCK_SIZE: usize = 256;

/// Where a scale or an offset that is stored as a value itself becomes an infinity. K-quants store a sixty-third of it and
/// could hold more, but nothing bounds how far their encoders search.
pub(crate) const LIMIT: f32 = float::F16_LIMIT;

/// Decodes whole blocks.
pub(crate) fn decode(kind: GgmlDType, bytes: &[u8]) -> Vec<f32> {
    shared(bytes, kind.type_size(), |bytes| decode_task(kind, bytes))
}

fn decode_task(kind: GgmlDType, bytes: &[u8]) -> Vec<f32> {
    let count = bytes.len() / kind.type_size() * kind.block_size();
    // candle wants blocks, with their 16-bit scales, at even addresses.
    let mut moved = Vec::new();
    let bytes = if bytes.as_ptr().align_offset(2) == 0 {
        bytes
    } else {
        moved.resize(bytes.len() + 1, 0);
        let start = moved.as_ptr().align_offset(2);
        moved[start..start + bytes.len()].copy_from_slice(bytes);
        &moved[start..start + bytes.len()]
    };
    let values = kind.from_data(Cow::Borrowed(bytes)).dequantize(count);
    match values {
        Ok(CpuStorage::F32(values)) => values,
        other => unreachable!("whole blocks decode to 32-bit floats: {other:?}"),
    }
}

/// Encodes whole blocks of finite values.
pub(crate) fn encode(kind: GgmlDType, values: &[f32]) -> Vec<u8> {
    shared(values, kind.block_size(), |values| {
        let encoded = || -> Result<Vec<u8>, Error> {
            let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
            Ok(QTensor::quantize(&tensor, kind)?.data()?.into_owned())
        };
        encoded().unwrap_or_else(|error| unreachable!("whole blocks encode: {error}"))
    })
}

/// Encodes rows of as many values as there are of `importance` for the least error weighted with it; a block that is better
/// in `plain` stays that.
pub(crate) fn encode_for(kind: GgmlDType, values: &[f32], importance: &[f32], plain: Vec<u8>) -> Vec<u8> {
    let row_size = importance.len();
    let weighted = shared(values, row_size, |values| {
        let encoded = || -> Result<Vec<u8>, Error> {
            let tensor = Tensor::from_slice(values, (values.len() / row_size, row_size), &Device::Cpu)?;
            Ok(QTensor::quantize_imatrix(&tensor, importance, kind)?.data()?.into_owned())
        };
        encoded().unwrap_or_else(|error| unreachable!("whole rows encode: {error}"))
    });
    let decoded = [decode(kind, &plain), decode(kind, &weighted)];
    let (size, bytes) = (kind.block_size(), kind.type_size());
    let mut best = plain;
    for (block, best) in best.chunks_exact_mut(bytes).enumerate() {
        let place = block * size..(block + 1) * size;
        let importance = &importance[place.start % row_size..][..size];
        let error = |decoded: &[f32]| weighted_error(&values[place.clone()], &decoded[place.clone()], importance);
        if error(&decoded[1]) < error(&decoded[0]) {
            best.copy_from_slice(&weighted[block * bytes..][..bytes]);
        }
    }
    best
}
