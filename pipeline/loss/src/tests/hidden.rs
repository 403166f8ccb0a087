//! Distances of hidden states against PyTorch in 64 bits, finite differences, and where they are nothing;
//! `tests/reference/make_hidden.py` made the values.

use burn::tensor::Tensor;
use limbeck_config::HiddenDistance;
use serde_json::Value;

use super::{double, single, uniform};
use crate::hidden_distance;

const FIXTURE: &str = include_str!("../../tests/golden/hidden.json");
const ROWS: usize = 5;
const STUDENT: usize = 3;
const TEACHER: usize = 7;
const KINDS: [HiddenDistance; 2] = [HiddenDistance::Cosine, HiddenDistance::Mse];

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// `‖actual - expected‖ / ‖expected‖`.
fn distance(actual: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    norm(&mut actual.iter().zip(expected).map(|(one, other)| one - other)) / norm(&mut expected.iter().copied())
}

#[test]
fn values_and_gradients_are_pytorchs_through_the_projection_too() {
    let fixture: Value = serde_json::from_str(FIXTURE).expect("the fixture is JSON");
    let cases = fixture["cases"].as_array().expect("a list");
    assert_eq!(cases.len(), KINDS.len());
    let states = [(1, ROWS, STUDENT), (2, ROWS, TEACHER), (3, TEACHER, STUDENT)];
    let states = states.map(|(seed, rows, columns)| (uniform(seed, rows * columns), rows));
    for case in cases {
        let kind: HiddenDistance = serde_json::from_value(case["kind"].clone()).expect("a kind");
        let expected = |key: &str| -> Vec<f64> {
            case[key].as_array().expect(key).iter().map(|number| number.as_f64().expect(key)).collect()
        };
        // 64 bits: what is left is the order of the sums. 32 bits: their rounding, of up to 7 terms.
        for (bits, tolerance) in [(64, 1e-12), (32, 2e-6)] {
            let make = if bits == 64 { double } else { single };
            let [student, teacher, weight] = states.each_ref().map(|(numbers, rows)| make(numbers, *rows));
            let found = hidden_distance(kind, student.clone().matmul(weight.clone().transpose()), teacher);
            let loss = numbers(found.loss_sum)[0];
            let expected_loss = case["loss"].as_f64().expect("a loss");
            assert!((loss / expected_loss - 1.0).abs() < tolerance, "{kind:?} {bits}: {loss} {expected_loss}");
            let gradient = found.state_gradient;
            let gradients = [
                ("projected_gradient", gradient.clone()),
                ("student_gradient", gradient.clone().matmul(weight)),
                ("weight_gradient", gradient.transpose().matmul(student)),
            ];
            for (key, gradient) in gradients {
                let distance = distance(&numbers(gradient), &expected(key));
                assert!(distance < tolerance, "{kind:?} {bits} {key}: {distance}");
            }
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let (student, teacher) = (uniform(4, ROWS * TEACHER), uniform(5, ROWS * TEACHER));
    for kind in KINDS {
        let found = |student: &[f64]| hidden_distance(kind, double(student, ROWS), double(&teacher, ROWS));
        let gradient = numbers(found(&student).state_gradient);
        for index in 0..student.len() {
            let moved = |by: f64| {
                let mut student = student.clone();
                student[index] += by;
                numbers(found(&student).loss_sum)[0]
            };
            let difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
            assert!((difference - gradient[index]).abs() < 1e-7, "{kind:?} {index}: {difference} {}", gradient[index]);
        }
    }
}

#[test]
fn the_same_states_have_no_loss_and_no_gradient_and_their_length_does_not_matter_to_a_cosine() {
    let states = uniform(6, ROWS * TEACHER);
    for kind in KINDS {
        let same = hidden_distance(kind, single(&states, ROWS), single(&states, ROWS));
        assert_eq!(numbers(same.loss_sum), [0.0], "{kind:?}");
        assert!(numbers(same.state_gradient).iter().all(|entry| *entry == 0.0), "{kind:?}");
        let longer = hidden_distance(kind, double(&states, ROWS) * 3.0, double(&states, ROWS));
        let (loss, is_cosine) = (numbers(longer.loss_sum)[0], kind == HiddenDistance::Cosine);
        // Of the mean squared error, 4 of the mean square.
        assert_eq!(loss < 1e-12, is_cosine, "{kind:?}: {loss}");
    }
}

#[test]
fn opposite_states_are_two_apart_and_perpendicular_ones_one() {
    let pair = |student: [f64; 2], teacher: [f64; 2]| {
        let loss = hidden_distance(HiddenDistance::Cosine, double(&student, 1), double(&teacher, 1));
        numbers(loss.loss_sum)[0]
    };
    // 1e-12 is added to squares of at least 1.
    for (loss, expected) in [(pair([1.0, 2.0], [-2.0, -4.0]), 2.0), (pair([1.0, 2.0], [-4.0, 2.0]), 1.0)] {
        assert!((loss - expected).abs() < 1e-11, "{loss} {expected}");
    }
    // Nothing cancels: the angle is 1e-5 / 3, half of whose square it is.
    let near = hidden_distance(HiddenDistance::Cosine, single(&[3.0, 0.0], 1), single(&[3.0, 1e-5], 1));
    let expected = 0.5 * (1e-5f64 / 3.0).powi(2);
    assert!((numbers(near.loss_sum)[0] / expected - 1.0).abs() < 1e-5);
}
