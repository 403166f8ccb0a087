//! What holds for every divergence, or between two.

use std::collections::BTreeSet;

use burn::tensor::DType;
use limbeck_config::Divergence;

use super::{all_divergences, at, double, seen, single, uniform};
use crate::divergence::terms;
use crate::pair::Pair;

const ROWS: usize = 3;
const VOCAB_SIZE: usize = 41;

fn random(seed: u64) -> Vec<f64> {
    uniform(seed, ROWS * VOCAB_SIZE)
}

/// serde's message about an unknown kind names all of them.
#[test]
pub(super) fn the_table_has_every_divergence() {
    let unknown = serde_json::json!({ "kind": "?" });
    let message = serde_json::from_value::<Divergence>(unknown).expect_err("no divergence is called `?`").to_string();
    let (_, listed) = message.split_once("expected one of ").expect("the list of kinds");
    let known: BTreeSet<_> = listed.split(", ").map(|name| name.trim_matches('`').to_owned()).collect();
    let table: BTreeSet<_> = all_divergences().iter().map(|divergence| divergence.name().to_owned()).collect();
    assert_eq!(table, known);
}

#[test]
fn a_name_is_the_kind_in_a_config() {
    for divergence in all_divergences() {
        let written = serde_json::to_value(divergence).expect("a divergence is written as a section");
        assert_eq!(written["kind"], divergence.name());
    }
}

#[test]
fn a_perfect_student_has_no_loss_and_no_gradient() {
    for divergence in all_divergences() {
        for temperature in [0.5, 1.0, 3.0] {
            let logits = single(&random(4), ROWS);
            let (value, gradient) = seen(at(divergence, temperature).dense(logits.clone(), logits));
            assert_eq!(value, 0.0, "{divergence:?}");
            assert!(gradient.iter().all(|entry| *entry == 0.0), "{divergence:?}: {gradient:?}");
        }
    }
}

#[test]
fn a_shift_of_all_logits_changes_nothing() {
    let (student, teacher) = (random(4), random(5));
    // Exact in 32 bits.
    let shifted: Vec<f64> = student.iter().map(|logit| logit + 4.0).collect();
    for divergence in all_divergences() {
        let value = |student: &[f64]| seen(at(divergence, 1.0).dense(single(student, ROWS), single(&teacher, ROWS)));
        assert_eq!(value(&student), value(&shifted), "{divergence:?}");
    }
}

/// 10,000 pairs of distributions that differ by 1e-2 to 1e-6, where the terms of the definitions cancel.
#[test]
fn nearly_equal_distributions_are_never_closer_than_equal_ones() {
    let count = 10_000 * VOCAB_SIZE;
    let student = uniform(6, count);
    for magnitude in [1e-2, 1e-4, 1e-6] {
        let nudge = uniform(7, count);
        let teacher: Vec<f64> = student.iter().zip(&nudge).map(|(logit, by)| logit + by * magnitude).collect();
        let teacher = single(&teacher, 10_000);
        for divergence in all_divergences() {
            let pair = Pair::of_logits(single(&student, 10_000), teacher.clone());
            let rows = terms(divergence, pair).value.sum_dim(1).into_data();
            assert!(rows.iter::<f64>().all(|value| value >= 0.0), "{divergence:?} at {magnitude}");
        }
    }
}

/// The CPU's loop is another instance of the same definitions.
#[test]
fn nor_are_they_in_the_loop_over_a_row() {
    let student = uniform(6, 300 * VOCAB_SIZE);
    let nudged: Vec<f64> =
        student.iter().zip(uniform(7, 300 * VOCAB_SIZE)).map(|(logit, by)| logit + by * 1e-4).collect();
    for divergence in all_divergences() {
        for (student, teacher) in student.chunks(VOCAB_SIZE).zip(nudged.chunks(VOCAB_SIZE)) {
            let (value, _) = seen(at(divergence, 1.0).dense(single(student, 1), single(teacher, 1)));
            assert!(value >= 0.0, "{divergence:?}: {value}");
        }
    }
}

#[test]
fn the_loop_over_a_row_is_the_tensors_operations() {
    for divergence in all_divergences() {
        for temperature in [0.5, 1.0, 3.0] {
            let loss = at(divergence, temperature);
            let logits = || (single(&random(4), ROWS), single(&random(5), ROWS));
            let (student, teacher) = logits();
            let (value, gradient) = seen(loss.dense(student, teacher));
            let (student, teacher) = logits();
            let (expected, expected_gradient) = seen(loss.composed(student, teacher));
            assert!((value / expected - 1.0).abs() < 2e-6, "{loss:?}: {value} against {expected}");
            for (entry, expected) in gradient.iter().zip(&expected_gradient) {
                assert!((entry - expected).abs() < 2e-6 * expected.abs().max(1.0), "{loss:?}: {entry} {expected}");
            }
        }
    }
}

/// The negative control of the tests above: the definition in 32 bits fails it.
#[test]
fn the_definition_of_a_kl_gives_negative_values_in_32_bits() {
    let student = uniform(6, 1000 * VOCAB_SIZE);
    let teacher: Vec<f64> =
        student.iter().zip(uniform(7, 1000 * VOCAB_SIZE)).map(|(logit, by)| logit + by * 1e-4).collect();
    let log = |logits: &[f64]| burn::tensor::activation::log_softmax(single(logits, 1000), 1);
    let (student, teacher) = (log(&student), log(&teacher));
    let rows = (teacher.clone().exp() * (teacher - student)).sum_dim(1).into_data();
    assert!(rows.iter::<f64>().any(|value| value < 0.0));
}

/// Against the same formulas in 64 bits, whose rounding is nothing here.
#[test]
fn nearly_equal_distributions_keep_three_digits() {
    let student = random(4);
    let teacher: Vec<f64> =
        student.iter().zip(random(5)).map(|(logit, by)| (logit + by * 1e-3) as f32 as f64).collect();
    for divergence in all_divergences() {
        let loss = at(divergence, 1.0);
        let (value, _) = seen(loss.dense(single(&student, ROWS), single(&teacher, ROWS)));
        let (expected, _) = seen(loss.dense(double(&student, ROWS), double(&teacher, ROWS)));
        assert!((value / expected - 1.0).abs() < 1e-3, "{divergence:?}: {value} against {expected}");
    }
}

/// A teacher and a student who leave no probability in 32 bits to each other's choice.
#[test]
fn certain_and_opposed_models_have_finite_losses() {
    let mut logits = [vec![0.0; VOCAB_SIZE], vec![0.0; VOCAB_SIZE]];
    (logits[0][3], logits[1][8]) = (1000.0, 1000.0);
    for divergence in all_divergences() {
        let (value, gradient) = seen(at(divergence, 1.0).dense(single(&logits[0], 1), single(&logits[1], 1)));
        let expected = match divergence {
            Divergence::ForwardKl {} | Divergence::ReverseKl {} => 1000.0,
            Divergence::SkewedForwardKl { alpha } | Divergence::SkewedReverseKl { alpha } if alpha > 0.0 => -alpha.ln(),
            Divergence::TotalVariation {} => 1.0,
            Divergence::SkewedForwardKl { .. } | Divergence::SkewedReverseKl { .. } => 1000.0,
            Divergence::JensenShannon { beta, .. } if beta == 0.0 || beta == 1.0 => 1000.0,
            Divergence::JensenShannon { beta, normalised } => {
                let raw = -beta * beta.ln() - (1.0 - beta) * (1.0 - beta).ln();
                if normalised { raw / (beta * (1.0 - beta)) } else { raw }
            }
        };
        assert!((value / expected - 1.0).abs() < 1e-5, "{divergence:?}: {value} against {expected}");
        assert!(gradient.iter().all(|entry| entry.is_finite()), "{divergence:?}");
    }
}

fn value_and_gradient(divergence: Divergence) -> (f64, Vec<f64>) {
    seen(at(divergence, 1.5).dense(single(&random(4), ROWS), single(&random(5), ROWS)))
}

#[test]
fn no_skew_and_the_ends_of_jensen_shannon_are_the_kls() {
    let (forward, reverse) = (Divergence::ForwardKl {}, Divergence::ReverseKl {});
    let mut pairs = vec![
        (Divergence::SkewedForwardKl { alpha: 0.0 }, forward),
        (Divergence::SkewedReverseKl { alpha: 0.0 }, reverse),
    ];
    for normalised in [false, true] {
        pairs.push((Divergence::JensenShannon { beta: 0.0, normalised }, forward));
        pairs.push((Divergence::JensenShannon { beta: 1.0, normalised }, reverse));
    }
    for (end, kl) in pairs {
        assert_eq!(value_and_gradient(end), value_and_gradient(kl), "{end:?}");
    }
}

/// The distance to the limit is proportional to the distance to the end, in value and gradient.
#[test]
fn normalised_jensen_shannon_runs_into_the_kls_without_a_jump() {
    for (kl, end) in [(Divergence::ForwardKl {}, 0.0), (Divergence::ReverseKl {}, 1.0)] {
        let (limit, limit_gradient) = value_and_gradient(kl);
        for step in [1e-2, 1e-3, 1e-4, 1e-5] {
            let beta = f64::abs(end - step);
            let (value, gradient) = value_and_gradient(Divergence::JensenShannon { beta, normalised: true });
            assert!((value / limit - 1.0).abs() < 20.0 * step, "{beta}: {value} against {limit}");
            let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            let relative = distance(&gradient, &limit_gradient) / distance(&limit_gradient, &[0.0; ROWS * VOCAB_SIZE]);
            assert!(relative < 50.0 * step + 1e-5, "{beta}: {relative}");
            // The negative control: the raw form has that much of the limit.
            let (raw, _) = value_and_gradient(Divergence::JensenShannon { beta, normalised: false });
            assert!(raw < 1.1 * step * limit, "{beta}: {raw}");
        }
    }
}

#[test]
fn jensen_shannon_and_total_variation_do_not_care_who_is_who() {
    let half = Divergence::JensenShannon { beta: 0.5, normalised: true };
    for divergence in [half, Divergence::TotalVariation {}] {
        let value = |first, second| {
            seen(at(divergence, 1.0).dense(single(&random(first), ROWS), single(&random(second), ROWS))).0
        };
        assert!((value(4, 5) - value(5, 4)).abs() < 1e-6, "{divergence:?}");
    }
}

#[test]
fn reverse_kl_is_forward_kl_with_the_roles_exchanged() {
    let value = |divergence, first, second| {
        seen(at(divergence, 1.0).dense(single(&random(first), ROWS), single(&random(second), ROWS))).0
    };
    let difference = value(Divergence::ReverseKl {}, 4, 5) - value(Divergence::ForwardKl {}, 5, 4);
    assert!(difference.abs() < 1e-6, "{difference}");
}

#[test]
fn the_tests_in_64_bits_are() {
    assert_eq!(double(&[0.0], 1).dtype(), DType::F64);
}
