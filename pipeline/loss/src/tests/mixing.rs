//! A divergence beside cross-entropy.

use burn::tensor::{Device, Int, Tensor};
use limbeck_config::Divergence;

use super::sparse::top_rows;
use super::{at, seen, single, uniform};
use crate::{ChunkLoss, MixedLoss, SparseTargets, cross_entropy};

const ROWS: usize = 3;
const VOCAB_SIZE: usize = 13;

fn targets() -> Tensor<1, Int> {
    Tensor::from_ints([12, 0, 5], &Device::flex())
}

/// Both kernels of the CPU that mix, at both temperatures, and one that is put together.
fn losses(ce_weight: f64) -> Vec<MixedLoss> {
    let loss = |divergence, temperature| MixedLoss { divergence: at(divergence, temperature), ce_weight };
    vec![
        loss(Divergence::ForwardKl {}, 1.0),
        loss(Divergence::ForwardKl {}, 2.0),
        loss(Divergence::ReverseKl {}, 1.0),
        loss(Divergence::ReverseKl {}, 2.0),
    ]
}

fn student() -> Tensor<2> {
    single(&uniform(10, ROWS * VOCAB_SIZE), ROWS)
}

fn teacher() -> Tensor<2> {
    single(&uniform(11, ROWS * VOCAB_SIZE), ROWS)
}

fn top(temperature: f64) -> SparseTargets {
    top_rows(&uniform(11, ROWS * VOCAB_SIZE), VOCAB_SIZE, 4, temperature).targets(VOCAB_SIZE)
}

#[test]
fn weights_one_and_zero_are_the_pure_losses() {
    let cross_entropy = seen(cross_entropy(student(), targets()));
    for loss in losses(1.0) {
        let top = top(loss.divergence.temperature);
        assert_eq!(seen(loss.dense(student(), teacher(), targets())), cross_entropy);
        assert_eq!(seen(loss.sparse(student(), &top, targets())), cross_entropy);
    }
    for loss in losses(0.0) {
        let top = top(loss.divergence.temperature);
        let dense = seen(loss.divergence.dense(student(), teacher()));
        assert_eq!(seen(loss.dense(student(), teacher(), targets())), dense);
        assert_eq!(seen(loss.sparse(student(), &top, targets())), seen(loss.divergence.sparse(student(), &top)));
    }
}

#[test]
fn a_mixture_has_a_share_of_both() {
    let close = |mixed: ChunkLoss, divergence: ChunkLoss| {
        let (value, gradient) = seen(mixed);
        let parts = (seen(divergence), seen(cross_entropy(student(), targets())));
        let ((one, one_gradient), (other, other_gradient)) = parts;
        assert!((value - (0.75 * one + 0.25 * other)).abs() < 1e-6 * value, "{value}");
        for (index, entry) in gradient.iter().enumerate() {
            assert!((entry - (0.75 * one_gradient[index] + 0.25 * other_gradient[index])).abs() < 1e-6, "{index}");
        }
    };
    for loss in losses(0.25) {
        let top = top(loss.divergence.temperature);
        close(loss.dense(student(), teacher(), targets()), loss.divergence.dense(student(), teacher()));
        close(loss.sparse(student(), &top, targets()), loss.divergence.sparse(student(), &top));
    }
}

/// 2 ln 2 + ... by hand: the logits 0 and ln 3 have the probabilities 1/4 and 3/4.
#[test]
fn cross_entropy_has_the_value_of_the_definition() {
    let logits = single(&[0.0, 3f64.ln(), 3f64.ln(), 0.0], 2);
    let (value, gradient) = seen(cross_entropy(logits, Tensor::from_ints([0, 0], &Device::flex())));
    assert!((value - (4f64.ln() + (4.0 / 3.0f64).ln())).abs() < 1e-6, "{value}");
    for (entry, expected) in gradient.iter().zip([-0.75, 0.75, -0.25, 0.25]) {
        assert!((entry - expected).abs() < 1e-6, "{gradient:?}");
    }
}
