//! Gradients against central differences of the values, in 64 bits so that the differences have digits.

use limbeck_config::Divergence;

use super::sparse::{sampled_rows, top_rows};
use super::{all_divergences, at, double, seen, uniform};
use crate::{ChunkLoss, DivergenceLoss};

const ROWS: usize = 2;
const VOCAB_SIZE: usize = 11;
const STEP: f64 = 1e-4;

fn has_its_gradient(name: &str, logits: &[f64], loss: impl Fn(&[f64]) -> ChunkLoss) {
    let (_, gradient) = seen(loss(logits));
    let norm = gradient.iter().map(|entry| entry * entry).sum::<f64>().sqrt();
    for index in 0..logits.len() {
        let nudged = |by: f64| {
            let mut nudged = logits.to_vec();
            nudged[index] += by;
            seen(loss(&nudged)).0
        };
        let difference = (nudged(STEP) - nudged(-STEP)) / (2.0 * STEP);
        let tolerance = 1e-4 * gradient[index].abs().max(1e-3 * norm);
        assert!(
            (difference - gradient[index]).abs() < tolerance,
            "{name} {index}: {difference} against {}",
            gradient[index]
        );
    }
}

/// At three temperatures, with and without their squares.
fn losses(divergence: Divergence) -> impl Iterator<Item = DivergenceLoss> {
    let of = |temperature, scale_by_temperature_squared| DivergenceLoss {
        divergence,
        temperature,
        scale_by_temperature_squared,
    };
    [of(1.0, true), of(2.0, false), of(2.0, true), of(0.5, false)].into_iter()
}

#[test]
fn every_divergence_has_the_gradient_of_its_differences() {
    let (student, teacher) = (uniform(8, ROWS * VOCAB_SIZE), uniform(9, ROWS * VOCAB_SIZE));
    for loss in all_divergences().into_iter().flat_map(losses) {
        has_its_gradient(&format!("{loss:?}"), &student, |logits| {
            loss.dense(double(logits, ROWS), double(&teacher, ROWS))
        });
    }
}

#[test]
fn every_divergence_has_it_towards_sparse_teachers() {
    let (student, teacher) = (uniform(8, ROWS * VOCAB_SIZE), uniform(9, ROWS * VOCAB_SIZE));
    for loss in all_divergences().into_iter().flat_map(losses) {
        let targets = top_rows(&teacher, VOCAB_SIZE, 4, loss.temperature).targets(VOCAB_SIZE);
        has_its_gradient(&format!("{loss:?}"), &student, |logits| loss.sparse(double(logits, ROWS), &targets));
    }
}

#[test]
fn forward_kl_has_it_towards_samples() {
    let student = uniform(8, ROWS * VOCAB_SIZE);
    let targets = sampled_rows(ROWS, VOCAB_SIZE).targets(VOCAB_SIZE);
    for loss in losses(Divergence::ForwardKl {}) {
        has_its_gradient(&format!("{loss:?}"), &student, |logits| loss.sparse(double(logits, ROWS), &targets));
    }
}

/// The negative control: forward KL's gradient beside reverse KL's value.
#[test]
#[should_panic(expected = "against")]
fn a_gradient_of_another_divergence_is_found() {
    let (student, teacher) = (uniform(8, ROWS * VOCAB_SIZE), uniform(9, ROWS * VOCAB_SIZE));
    has_its_gradient("forged", &student, |logits| {
        let of = |divergence| at(divergence, 1.0).dense(double(logits, ROWS), double(&teacher, ROWS));
        ChunkLoss { loss_sum: of(Divergence::ReverseKl {}).loss_sum, ..of(Divergence::ForwardKl {}) }
    });
}
