//! Values of other programs, identities, finite differences; and what they share.

mod differences;
mod golden;
mod hidden;
mod identities;
mod mixing;
mod sparse;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use limbeck_config::Divergence;
use limbeck_kernels::ChunkLoss;

use crate::DivergenceLoss;

/// Every divergence, those with a parameter at the ends and between.
///
/// The chain of `next` does not compile without a new variant, and
/// [`the_table_has_every_divergence`](identities::the_table_has_every_divergence) finds one that is not in it.
fn all_divergences() -> Vec<Divergence> {
    let jensen_shannon = |beta, normalised| Divergence::JensenShannon { beta, normalised };
    let next = |divergence: Divergence| match divergence {
        Divergence::ForwardKl {} => vec![Divergence::ReverseKl {}],
        Divergence::ReverseKl {} => [0.5, 0.1, 0.0].map(|alpha| Divergence::SkewedForwardKl { alpha }).into(),
        Divergence::SkewedForwardKl { .. } => [0.5, 0.1, 0.0].map(|alpha| Divergence::SkewedReverseKl { alpha }).into(),
        Divergence::SkewedReverseKl { .. } => {
            let betas = [0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0];
            betas.iter().flat_map(|&beta| [jensen_shannon(beta, false), jensen_shannon(beta, true)]).collect()
        }
        Divergence::JensenShannon { .. } => vec![Divergence::TotalVariation {}],
        Divergence::TotalVariation {} => vec![],
    };
    let mut all = vec![Divergence::ForwardKl {}];
    while let Some(&last) = all.last() {
        let more = next(last);
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    all
}

/// Without the square of the temperature.
fn at(divergence: Divergence, temperature: f64) -> DivergenceLoss {
    DivergenceLoss { divergence, temperature, scale_by_temperature_squared: false }
}

/// `rows * vocab_size` numbers of \[-4, 4), multiples of 2⁻²¹, which `make_losses.py` draws too.
fn uniform(seed: u64, count: usize) -> Vec<f64> {
    let number = |index: u64| {
        let word = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let word = word ^ (word >> 31);
        ((word >> 40) as f64 - f64::from(1 << 23)) / f64::from(1 << 21)
    };
    (1..=count as u64).map(number).collect()
}

/// `[rows, numbers / rows]` in 32 bits, as in training.
fn single(numbers: &[f64], rows: usize) -> Tensor<2> {
    double(numbers, rows).cast(FloatDType::F32)
}

/// As [`single`], in 64 bits.
fn double(numbers: &[f64], rows: usize) -> Tensor<2> {
    let data = TensorData::new(numbers.to_vec(), [rows, numbers.len() / rows]);
    Tensor::from_data(data, (&Device::flex(), DType::F64))
}

/// Value and gradient, on the host.
fn seen(loss: ChunkLoss) -> (f64, Vec<f64>) {
    let numbers = |data: TensorData| data.iter::<f64>().collect::<Vec<_>>();
    (numbers(loss.loss_sum.into_data())[0], numbers(loss.logit_gradient.into_data()))
}
