//! Sparse teachers: the coarsened distributions, samples, and what is refused.

use burn::tensor::{Device, Tensor};
use limbeck_config::Divergence;
use limbeck_kernels::{Precision, loss_head};

use super::{all_divergences, at, seen, single, uniform};
use crate::{LossError, SparseTargets, cross_entropy};

pub(super) use crate::SparseRows as Rows;

impl Rows {
    pub(super) fn targets(&self, vocab_size: usize) -> SparseTargets {
        self.refusal(vocab_size).expect("the rows are distributions")
    }

    fn refusal(&self, vocab_size: usize) -> Result<SparseTargets, LossError> {
        SparseTargets::new(self.clone(), vocab_size)
    }
}

/// The `count` most probable ids of every row, and everything else together.
pub(super) fn top_rows(teacher: &[f64], vocab_size: usize, count: usize, temperature: f64) -> Rows {
    let mut rows = Rows { offsets: vec![0], ids: vec![], log_probabilities: vec![], ghost: Some(vec![]) };
    for logits in teacher.chunks(vocab_size) {
        let mut order: Vec<usize> = (0..vocab_size).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let log_sum = |ids: &[usize]| {
            let largest = ids.iter().map(|&id| logits[id] / temperature).fold(f64::MIN, f64::max);
            largest + ids.iter().map(|&id| (logits[id] / temperature - largest).exp()).sum::<f64>().ln()
        };
        let all = log_sum(&order);
        rows.ids.extend(order[..count].iter().map(|&id| id as u32));
        rows.log_probabilities.extend(order[..count].iter().map(|&id| (logits[id] / temperature - all) as f32));
        let rest = if count == vocab_size { f64::NEG_INFINITY } else { log_sum(&order[count..]) - all };
        rows.ghost.get_or_insert_default().push(rest as f32);
        rows.offsets.push(rows.ids.len());
    }
    rows
}

/// Counts as `make_losses.py` has them, 1 to 5 ids a row.
pub(super) fn sampled_rows(rows: usize, vocab_size: usize) -> Rows {
    let mut sampled = Rows { offsets: vec![0], ids: vec![], log_probabilities: vec![], ghost: None };
    for (row, length) in [1, 4, 2, 5, 3].into_iter().take(rows).enumerate() {
        let counts: Vec<f64> = (0..length).map(|index| (1 + (row + 3 * index) % 4) as f64).collect();
        let total: f64 = counts.iter().sum();
        sampled.ids.extend((0..length).map(|index| ((7 * row + 2 * index) % vocab_size) as u32));
        sampled.log_probabilities.extend(counts.iter().map(|count| (count / total).ln() as f32));
        sampled.offsets.push(sampled.ids.len());
    }
    sampled
}

const ROWS: usize = 3;
const VOCAB_SIZE: usize = 29;

fn logits(seed: u64) -> Vec<f64> {
    uniform(seed, ROWS * VOCAB_SIZE)
}

#[test]
fn a_perfect_student_has_no_loss_and_no_gradient() {
    for divergence in all_divergences() {
        for temperature in [1.0, 2.0] {
            let targets = top_rows(&logits(4), VOCAB_SIZE, 5, temperature).targets(VOCAB_SIZE);
            let (value, gradient) = seen(at(divergence, temperature).sparse(single(&logits(4), ROWS), &targets));
            // The targets were rounded to 32 bits on another way; total variation is linear in that, the others square it.
            let tolerance = if matches!(divergence, Divergence::TotalVariation {}) { 1e-6 } else { 1e-11 };
            assert!(value.abs() < tolerance, "{divergence:?}: {value}");
            assert!(gradient.iter().all(|entry| entry.abs() < 1e-6), "{divergence:?}: {gradient:?}");
        }
    }
}

#[test]
fn a_ghost_never_has_more_than_the_whole_distribution() {
    for divergence in all_divergences() {
        let loss = at(divergence, 1.0);
        let (student, teacher) = (single(&logits(4), ROWS), single(&logits(5), ROWS));
        let (whole, _) = seen(loss.dense(student.clone(), teacher));
        let mut last = 0.0;
        for count in [1, 3, 8, 20, 28] {
            let targets = top_rows(&logits(5), VOCAB_SIZE, count, 1.0).targets(VOCAB_SIZE);
            let (value, _) = seen(loss.sparse(student.clone(), &targets));
            assert!(
                value <= whole * (1.0 + 1e-6) && value >= last,
                "{divergence:?} of {count}: {last} {value} {whole}"
            );
            last = value * (1.0 - 1e-6);
        }
    }
}

#[test]
fn all_ids_listed_are_the_dense_teacher() {
    for divergence in all_divergences() {
        let loss = at(divergence, 1.0);
        let targets = top_rows(&logits(5), VOCAB_SIZE, VOCAB_SIZE, 1.0).targets(VOCAB_SIZE);
        let (value, gradient) = seen(loss.sparse(single(&logits(4), ROWS), &targets));
        let (expected, expected_gradient) = seen(loss.dense(single(&logits(4), ROWS), single(&logits(5), ROWS)));
        assert!((value / expected - 1.0).abs() < 2e-6, "{divergence:?}: {value} against {expected}");
        for (entry, expected) in gradient.iter().zip(&expected_gradient) {
            assert!((entry - expected).abs() < 2e-6 * expected.abs().max(1.0), "{divergence:?}: {entry} {expected}");
        }
    }
}

/// Renormalising on the listed ids, as others do, gives the ids outside no gradient at all.
#[test]
fn the_gradient_reaches_the_ids_that_are_not_listed() {
    let rows = top_rows(&logits(5), VOCAB_SIZE, 4, 1.0);
    for divergence in all_divergences() {
        let loss = at(divergence, 1.0);
        let (_, gradient) = seen(loss.sparse(single(&logits(4), ROWS), &rows.targets(VOCAB_SIZE)));
        for row in 0..ROWS {
            let listed = &rows.ids[rows.offsets[row]..rows.offsets[row + 1]];
            for id in (0..VOCAB_SIZE).filter(|id| !listed.contains(&(*id as u32))) {
                assert_ne!(gradient[row * VOCAB_SIZE + id], 0.0, "{divergence:?}: {row} {id}");
            }
        }
    }
}

/// A student who puts all but e⁻⁹⁰ on the listed ids: 1 - Σ would be 0, its logarithm infinite.
#[test]
fn a_tail_too_small_for_a_float_keeps_its_logarithm() {
    let mut student = vec![0.0; VOCAB_SIZE];
    student[6] = 90.0;
    let rows = Rows {
        offsets: vec![0, 1],
        ids: vec![6],
        log_probabilities: vec![0.5f32.ln()],
        ghost: Some(vec![0.5f32.ln()]),
    };
    let (value, gradient) =
        seen(at(Divergence::ForwardKl {}, 1.0).sparse(single(&student, 1), &rows.targets(VOCAB_SIZE)));
    // ½ ln ½ - ½ (ln ½ ... ): ½ (ln ½ - 0) + ½ (ln ½ + 90 - ln 28).
    let expected = 0.5f64.ln() + 0.5 * (90.0 - 28f64.ln());
    assert!((value - expected).abs() < 1e-5 * expected, "{value} against {expected}");
    assert!((gradient[0] + 0.5 / 28.0).abs() < 1e-6, "{}", gradient[0]);
    assert!((gradient[6] - 0.5).abs() < 1e-6, "{}", gradient[6]);
}

#[test]
fn a_sample_of_one_id_is_its_cross_entropy() {
    let ids = [17, 0, 28];
    let rows = Rows { offsets: vec![0, 1, 2, 3], ids: ids.to_vec(), log_probabilities: vec![0.0; 3], ghost: None };
    let student = single(&logits(4), ROWS);
    let (value, gradient) = seen(at(Divergence::ForwardKl {}, 1.0).sparse(student.clone(), &rows.targets(VOCAB_SIZE)));
    let targets = Tensor::from_ints(ids.map(|id| id as i32), &Device::flex());
    let (expected, expected_gradient) = seen(cross_entropy(student, targets));
    assert!((value / expected - 1.0).abs() < 1e-6, "{value} against {expected}");
    assert!(gradient.iter().zip(&expected_gradient).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn samples_are_for_forward_kl_alone() {
    let allowed = all_divergences().into_iter().filter(|divergence| at(*divergence, 1.0).for_samples().is_ok());
    assert_eq!(allowed.collect::<Vec<_>>(), [Divergence::ForwardKl {}]);
    let error = at(Divergence::TotalVariation {}, 1.0).for_samples().expect_err("no mean is right").to_string();
    assert!(
        error.starts_with("distill.divergence is `total_variation`, must be `forward_kl` for sampled logits"),
        "{error}"
    );
}

/// Chunks of two rows: 5 rows of 2²¹ logits are three of them.
#[test]
fn the_loss_head_in_chunks_is_the_loss_of_all_rows() {
    let (rows, vocab_size) = (5, 1 << 21);
    let weight = uniform(12, vocab_size);
    let weight = single(&weight, vocab_size); // [vocab_size, 1]
    let hidden = single(&[0.5, -0.25, 1.0, -1.5, 0.75], rows); // [rows, 1]
    let targets = sampled_rows(rows, vocab_size).targets(vocab_size);
    let loss = at(Divergence::ForwardKl {}, 1.0);
    let mut chunks = 0;
    let (tracked, tracked_weight) = (hidden.clone().autodiff().require_grad(), weight.clone().autodiff());
    let head = loss_head(tracked, tracked_weight, Precision::Fp32, |logits, chunk| {
        chunks += 1;
        loss.sparse(logits, &targets.narrow(chunk))
    });
    let whole = loss.sparse(hidden.matmul(weight.transpose()), &targets);
    let (value, expected) = (head.loss_sum.into_scalar::<f32>(), whole.loss_sum.into_scalar::<f32>());
    assert_eq!(chunks, 3);
    assert!((value / expected - 1.0).abs() < 1e-6, "{value} against {expected}");
}

#[test]
fn rows_that_are_no_distributions_are_refused() {
    let good = || sampled_rows(3, VOCAB_SIZE);
    let refused = |change: &dyn Fn(&mut Rows)| {
        let mut rows = good();
        change(&mut rows);
        rows.refusal(VOCAB_SIZE).expect_err("a change for the worse").to_string()
    };
    type Change<'a> = &'a dyn Fn(&mut Rows);
    let cases: [(Change<'_>, &str); 9] = [
        (&|rows| rows.ids[2] = 29, "row `1` of the sparse targets has id `29`, must be under vocab_size = `29`"),
        (&|rows| rows.ids[2] = rows.ids[1], "row `1` of the sparse targets has id `7` more than once"),
        (&|rows| rows.log_probabilities[0] = f32::NAN, "row `0` of the sparse targets has a log-probability of `NaN`"),
        (
            &|rows| rows.log_probabilities[0] = -0.1,
            "row `0` of the sparse targets has a probability of `0.9048` in all",
        ),
        (
            &|rows| rows.ghost = Some(vec![-0.1; 3]),
            "row `0` of the sparse targets has a probability of `1.9048` in all",
        ),
        (&|rows| rows.ghost = Some(vec![-9.0; 2]), "the sparse targets have `2` ghosts, must be `3`"),
        (&|rows| rows.offsets[2] = 1, "row `1` of the sparse targets has no ids"),
        (&|rows| rows.offsets[1] = 6, "the offsets of the sparse targets must begin with `0` and not go down"),
        (&|rows| rows.ids.truncate(6), "the sparse targets have `6` ids, must be `7`"),
    ];
    for (change, expected) in cases {
        let message = refused(change);
        assert!(message.starts_with(expected) && message.contains("; hint: "), "{message}");
    }
}

#[test]
fn a_narrowed_batch_has_the_rows_in_between() {
    let rows = sampled_rows(5, VOCAB_SIZE);
    let some = rows.targets(VOCAB_SIZE).narrow(1..3);
    assert_eq!((some.rows(), some.has_ghost()), (2, false));
    let student = single(&uniform(13, 2 * VOCAB_SIZE), 2);
    let only = Rows {
        offsets: vec![0, 4, 6],
        ids: rows.ids[1..7].to_vec(),
        log_probabilities: rows.log_probabilities[1..7].to_vec(),
        ghost: None,
    };
    let of = |targets: &SparseTargets| seen(at(Divergence::ForwardKl {}, 1.0).sparse(student.clone(), targets)).0;
    assert!((of(&some) - of(&only.targets(VOCAB_SIZE))).abs() < 1e-6);
}
