//! A divergence beside cross-entropy.

use burn::tensor::{Device, Int, Tensor};
use limbeck_config::Divergence;

use super::{at, seen, single, uniform};
use crate::{ChunkLoss, cross_entropy, mix};

const ROWS: usize = 3;
const VOCAB_SIZE: usize = 13;

fn targets() -> Tensor<1, Int> {
    Tensor::from_ints([12, 0, 5], &Device::flex())
}

fn parts() -> (ChunkLoss, ChunkLoss) {
    let logits = |seed| single(&uniform(seed, ROWS * VOCAB_SIZE), ROWS);
    (cross_entropy(logits(10), targets()), at(Divergence::ReverseKl {}, 2.0).dense(logits(10), logits(11)))
}

#[test]
fn weights_one_and_zero_are_the_pure_losses_and_make_nothing_else() {
    let (first, second) = parts();
    let only = |weight: f64, loss: ChunkLoss| {
        let missing = || -> ChunkLoss { panic!("made for nothing") };
        if weight == 1.0 { mix(weight, || loss, missing) } else { mix(weight, missing, || loss) }
    };
    assert_eq!(seen(only(1.0, first.clone())), seen(first));
    assert_eq!(seen(only(0.0, second.clone())), seen(second));
}

#[test]
fn a_mixture_has_a_share_of_both() {
    let (first, second) = parts();
    let (value, gradient) = seen(mix(0.25, || first.clone(), || second.clone()));
    let ((one, one_gradient), (other, other_gradient)) = (seen(first), seen(second));
    assert!((value - (0.25 * one + 0.75 * other)).abs() < 1e-6 * value, "{value}");
    for (index, entry) in gradient.iter().enumerate() {
        assert!((entry - (0.25 * one_gradient[index] + 0.75 * other_gradient[index])).abs() < 1e-6, "{index}");
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
