//! Values and gradients of SciPy, PyTorch, TRL and Liger Kernel in 64 bits; `tests/reference/make_losses.py` made them.

use std::collections::BTreeSet;

use burn::tensor::Tensor;
use limbeck_config::Divergence;
use serde_json::Value;

use super::sparse::{sampled_rows, top_rows};
use super::{all_divergences, at, seen, single, uniform};
use crate::{ChunkLoss, DivergenceLoss, SparseTargets};

const FIXTURE: &str = include_str!("../../tests/golden/losses.json");
const ROWS: usize = 5;
const MASK: [usize; 3] = [0, 2, 3];

struct Case {
    inputs: String,
    vocab_size: usize,
    loss: DivergenceLoss,
    sparse: Option<String>,
    /// Through Burn's operations even on the CPU.
    composed: bool,
    value: f64,
    masked_value: f64,
    gradient: Vec<f64>,
    gradient_norm: f64,
    gradient_projection: f64,
}

fn cases() -> Vec<Case> {
    let fixture: Value = serde_json::from_str(FIXTURE).expect("the fixture is JSON");
    let case = |(case, composed): (&Value, bool)| {
        let number = |key: &str| case[key].as_f64().expect(key);
        let text = |key: &str| case[key].as_str().map(str::to_owned);
        let divergence: Divergence = serde_json::from_value(case["divergence"].clone()).expect("a divergence");
        Case {
            inputs: text("inputs").expect("inputs"),
            vocab_size: number("vocab_size") as usize,
            loss: at(divergence, number("temperature")),
            sparse: text("sparse"),
            composed,
            value: number("value"),
            masked_value: number("masked_value"),
            gradient: case["gradient"].as_array().expect("numbers").iter().filter_map(Value::as_f64).collect(),
            gradient_norm: number("gradient_norm"),
            gradient_projection: number("gradient_projection"),
        }
    };
    let all = fixture["cases"].as_array().expect("a list").iter();
    let dense = |case: &Value| case["sparse"].is_null();
    let composed = all.clone().filter(|case| dense(case)).map(|case| (case, true));
    all.map(|case| (case, false)).chain(composed).map(case).collect()
}

impl Case {
    /// Logits of student and teacher, as the script makes them.
    fn logits(&self) -> (Vec<f64>, Vec<f64>) {
        let count = ROWS * self.vocab_size;
        let (mut student, mut teacher) = (uniform(1, count), uniform(2, count));
        match self.inputs.as_str() {
            "random" => {}
            "near" => {
                let nudged = |(s, t): (&f64, &f64)| s + (t * 2048.0).floor() / f64::from(1 << 21);
                teacher = student.iter().zip(&teacher).map(nudged).collect();
            }
            "peaked" => {
                for row in 0..ROWS {
                    student[row * self.vocab_size + 3] += 60.0;
                    teacher[row * self.vocab_size + 5] += 60.0;
                }
            }
            other => panic!("inputs {other}"),
        }
        (student, teacher)
    }

    fn targets(&self, teacher: &[f64]) -> Option<SparseTargets> {
        let rows = match self.sparse.as_deref()? {
            "top" => {
                top_rows(teacher, self.vocab_size, if self.vocab_size == 7 { 3 } else { 12 }, self.loss.temperature)
            }
            "samples" => sampled_rows(ROWS, self.vocab_size),
            other => panic!("targets {other}"),
        };
        Some(rows.targets(self.vocab_size))
    }

    /// The loss over some of the rows.
    fn of_rows(&self, loss: &DivergenceLoss, rows: &[usize]) -> ChunkLoss {
        let (student, teacher) = self.logits();
        let chosen = |logits: &[f64]| {
            let of_row = |&row: &usize| logits[row * self.vocab_size..][..self.vocab_size].to_vec();
            single(&rows.iter().flat_map(of_row).collect::<Vec<_>>(), rows.len())
        };
        match self.targets(&teacher) {
            None if self.composed => loss.composed(chosen(&student), chosen(&teacher)),
            None => loss.dense(chosen(&student), chosen(&teacher)),
            Some(targets) => {
                let one_by_one =
                    rows.iter().map(|&row| loss.sparse(chosen_row(&student, row), &targets.narrow(row..row + 1)));
                joined(one_by_one.collect())
            }
        }
    }

    fn name(&self) -> String {
        let way = if self.composed { "composed" } else { "fused" };
        format!("{:?} {} of {}, {:?}, {way}", self.loss, self.inputs, self.vocab_size, self.sparse)
    }
}

fn chosen_row(logits: &[f64], row: usize) -> Tensor<2> {
    single(logits, ROWS).narrow(0, row, 1)
}

/// The loss of several chunks.
fn joined(losses: Vec<ChunkLoss>) -> ChunkLoss {
    let loss_sum = Tensor::cat(losses.iter().map(|loss| loss.loss_sum.clone()).collect(), 0).sum();
    ChunkLoss { loss_sum, logit_gradient: Tensor::cat(losses.into_iter().map(|loss| loss.logit_gradient).collect(), 0) }
}

/// Rounding of the inputs' exponentials and sums in 32 bits: 1e-6, of the value where that is over 1.
fn is_close(actual: f64, expected: f64) -> bool {
    (actual - expected).abs() <= 1e-6 * expected.abs().max(1.0)
}

#[test]
fn values_are_those_of_scipy_and_trl() {
    for case in cases() {
        let (value, _) = seen(case.of_rows(&case.loss, &[0, 1, 2, 3, 4]));
        assert!(is_close(value, case.value), "{}: {value} against {}", case.name(), case.value);
    }
}

#[test]
fn masked_rows_have_no_part_in_the_value() {
    for case in cases() {
        let (value, _) = seen(case.of_rows(&case.loss, &MASK));
        assert!(is_close(value, case.masked_value), "{}: {value} against {}", case.name(), case.masked_value);
    }
}

/// Within 1e-4 of each entry, or of a hundredth of the largest: what is smaller is a difference of larger numbers.
#[test]
fn gradients_are_those_of_autograd() {
    // Total variation's jumps where both agree on an id, as of 1000 nearly equal ones some do to rounding.
    let jumps = |case: &Case| case.inputs == "near" && case.loss.divergence == Divergence::TotalVariation {};
    for case in cases().into_iter().filter(|case| !jumps(case)) {
        let (_, gradient) = seen(case.of_rows(&case.loss, &[0, 1, 2, 3, 4]));
        let largest = case.gradient.iter().fold(0.0, |largest: f64, entry| largest.max(entry.abs()));
        // What 32 bits cannot tell from 0: between nearly equal distributions the last place of a probability, with peaks
        // that of a log-ratio of 240.
        let rounding = match case.inputs.as_str() {
            "near" => 1e-7,
            "peaked" => 2e-5,
            _ => 0.0,
        };
        for (index, expected) in case.gradient.iter().enumerate() {
            let actual = gradient[place(index, case.vocab_size)];
            let tolerance = (1e-4 * expected.abs().max(1e-2 * largest)).max(rounding);
            assert!((actual - expected).abs() <= tolerance, "{} {index}: {actual} against {expected}", case.name());
        }
        let norm = gradient.iter().map(|entry| entry * entry).sum::<f64>().sqrt();
        let direction = uniform(3, gradient.len());
        let projection: f64 = gradient.iter().zip(&direction).map(|(entry, along)| entry * along).sum();
        let tolerance = (1e-5 * norm).max(10.0 * rounding);
        assert!((norm - case.gradient_norm).abs() <= tolerance, "{}: norm {norm}", case.name());
        let difference = (projection - case.gradient_projection).abs();
        assert!(difference <= 10.0 * tolerance, "{}: projection {projection}", case.name());
    }
}

/// Where an entry of the fixture is in the whole gradient.
fn place(index: usize, vocab_size: usize) -> usize {
    if vocab_size <= 30 {
        return index;
    }
    let (row, entry) = (index / 6, index % 6);
    row * vocab_size + (7 * row + 131 * entry) % vocab_size
}

/// The smallest difference that a value's tolerance would not see is held relative to the value here.
#[test]
fn nearly_equal_distributions_have_their_digits() {
    for case in cases().iter().filter(|case| case.inputs == "near") {
        let (value, _) = seen(case.of_rows(&case.loss, &[0, 1, 2, 3, 4]));
        assert!((value / case.value - 1.0).abs() < 1e-3, "{}: {value} against {}", case.name(), case.value);
    }
}

#[test]
fn the_square_of_the_temperature_multiplies_value_and_gradient() {
    for case in cases() {
        let scaled = DivergenceLoss { scale_by_temperature_squared: true, ..case.loss };
        let (value, gradient) = seen(case.of_rows(&case.loss, &MASK));
        let (scaled_value, scaled_gradient) = seen(case.of_rows(&scaled, &MASK));
        let square = case.loss.temperature.powi(2);
        // Powers of two: exact.
        assert_eq!(scaled_value, value * square, "{}", case.name());
        // So are these, but for what is under the smallest normal float.
        let is_square = |(plain, scaled): (&f64, &f64)| (plain * square - scaled).abs() < f64::from(f32::MIN_POSITIVE);
        assert!(gradient.iter().zip(&scaled_gradient).all(is_square), "{}", case.name());
    }
}

#[test]
fn the_fixture_has_every_divergence_dense_and_sparse() {
    let names = |sparse: bool| -> BTreeSet<_> {
        let chosen = cases().into_iter().filter(|case| case.sparse.is_some() == sparse);
        chosen.map(|case| case.loss.divergence.name()).collect()
    };
    let all: BTreeSet<_> = all_divergences().iter().map(Divergence::name).collect();
    assert_eq!(names(false), all);
    assert_eq!(names(true), all);
}
