//! Losses of rows of logits on the CPU, each while its row is in the cache.

use burn::backend::Flex;
use burn::tensor::{Int, Shape, Tensor};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::flex::{last_dimension, shaped, values};
use crate::level::vectorized;
use crate::loss_head::ChunkLoss;
use crate::simd::{exp, exp_shifted, largest, sum_exp};

/// Values that a task handles at least.
const VALUES_PER_TASK: usize = 1 << 15;

/// `Σ -ln softmax(logits)[target]`, gradient `softmax(logits) - onehot(target)`, which overwrites the logits unless
/// somebody else holds them.
///
/// # Shapes
/// - `logits`: `[rows, vocab_size]`
/// - `targets`: `[rows]`
///
/// # Panics
/// If [`crate::implementation_for`] the logits is not fused.
pub fn cross_entropy_rows(logits: Tensor<2>, targets: Tensor<1, Int>) -> ChunkLoss {
    let mut logits = primitive(logits);
    let targets = indices(targets);
    let vocab_size = last_dimension(&logits);
    let rows = rows_per_task(vocab_size);
    let tasks = logits.storage_mut::<f32>().par_chunks_mut(rows * vocab_size).zip(targets.par_chunks(rows));
    let losses = tasks.map(|(logits, targets)| {
        vectorized(
            #[inline(always)]
            || logits.chunks_mut(vocab_size).zip(targets).map(|(row, target)| cross_entropy_row(row, *target)).sum(),
        )
    });
    chunk_loss(losses.collect(), logits)
}

/// The value of [`cross_entropy_rows`] alone, to the last bit: `[1]`.
///
/// # Shapes
/// As [`cross_entropy_rows`].
///
/// # Panics
/// As [`cross_entropy_rows`].
pub fn cross_entropy_sum_rows(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let logits = primitive(logits);
    let targets = indices(targets);
    let vocab_size = last_dimension(&logits);
    let rows = rows_per_task(vocab_size);
    let tasks = values(&logits).par_chunks(rows * vocab_size).zip(targets.par_chunks(rows));
    let losses = tasks.map(|(logits, targets)| {
        vectorized(
            #[inline(always)]
            || {
                let rows = logits.chunks(vocab_size).zip(targets);
                rows.map(|(row, target)| {
                    let largest = largest(row);
                    f64::from(sum_exp(row, largest, 1.0)).ln() + f64::from(largest - row[*target])
                })
                .sum::<f64>()
            },
        )
    });
    sum(losses.collect())
}

fn indices(targets: Tensor<1, Int>) -> Vec<usize> {
    targets.into_data().iter::<i64>().map(|target| target as usize).collect()
}

#[inline(always)]
fn cross_entropy_row(row: &mut [f32], target: usize) -> f64 {
    let target_logit = row[target];
    let largest = largest(row);
    let sum = exp_shifted(row, largest);
    let scale = sum.recip();
    row.iter_mut().for_each(|value| *value *= scale);
    row[target] -= 1.0;
    f64::from(sum).ln() + f64::from(largest - target_logit)
}

/// `scale Σ p ln(p / q)` with `p = softmax(teacher / T)`, `q = softmax(student / T)`, and its gradient
/// `scale / T (q - p)`, which overwrites the student's logits unless somebody else holds them.
///
/// # Shapes
/// - `student`, `teacher`: `[rows, vocab_size]`
///
/// # Panics
/// If [`crate::implementation_for`] the logits is not fused.
pub fn forward_kl_rows(student: Tensor<2>, teacher: Tensor<2>, temperature: f64, scale: f64) -> ChunkLoss {
    let (mut student, teacher) = (primitive(student), primitive(teacher));
    let vocab_size = last_dimension(&student);
    let task = rows_per_task(vocab_size) * vocab_size;
    let factors = (temperature.recip() as f32, (scale / temperature) as f32);
    let tasks = student.storage_mut::<f32>().par_chunks_mut(task).zip(values(&teacher).par_chunks(task));
    let losses = tasks.map(|(student, teacher)| {
        vectorized(
            #[inline(always)]
            || {
                let rows = student.chunks_mut(vocab_size).zip(teacher.chunks(vocab_size));
                scale * rows.map(|(student, teacher)| forward_kl_row(student, teacher, factors)).sum::<f64>()
            },
        )
    });
    chunk_loss(losses.collect(), student)
}

/// `factors`: on the logits, and on q - p.
#[inline(always)]
fn forward_kl_row(student: &mut [f32], teacher: &[f32], factors: (f32, f32)) -> f64 {
    let (student_shift, teacher_shift) = (largest(student), largest(teacher));
    let student_sum = sum_exp(student, student_shift, factors.0);
    let teacher_sum = sum_exp(teacher, teacher_shift, factors.0);
    let (student_share, teacher_share) = (student_sum.recip(), teacher_sum.recip());
    let log_sums = (f64::from(student_sum) / f64::from(teacher_sum)).ln() as f32;
    let mut lanes = [0.0f32; 16];
    for (student, teacher) in student.chunks_mut(16).zip(teacher.chunks(16)) {
        for ((student, teacher), lane) in student.iter_mut().zip(teacher).zip(&mut lanes) {
            let (s, t) = ((*student - student_shift) * factors.0, (*teacher - teacher_shift) * factors.0);
            let (q, p) = (exp(s) * student_share, exp(t) * teacher_share);
            *lane += kl_term(p, q, s - t - log_sums);
            *student = factors.1 * (q - p);
        }
    }
    lanes.iter().map(|lane| f64::from(*lane)).sum()
}

/// `p (eˣ - 1 - x)` for x = ln(q / p), whose sum over a row is KL(p ‖ q): never under 0, as the terms `p ln(p / q)` are, which
/// cancel when the distributions are nearly equal. Near 0 the series of the exponential.
#[inline(always)]
fn kl_term(p: f32, q: f32, x: f32) -> f32 {
    let near = p * (x * x) * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0))));
    let far = q - p - p * x;
    if x.abs() < 0.125 { near } else { far }
}

fn primitive(tensor: Tensor<2>) -> FlexTensor {
    let tensor = tensor.try_into_primitive::<Flex>().expect("untracked, on the flex backend");
    // Not `to_contiguous` where it is: that would share the buffer, and a shared one is copied before it is written.
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

fn rows_per_task(vocab_size: usize) -> usize {
    VALUES_PER_TASK.div_ceil(vocab_size)
}

fn chunk_loss(losses: Vec<f64>, logit_gradient: FlexTensor) -> ChunkLoss {
    ChunkLoss { loss_sum: sum(losses), logit_gradient: Tensor::from_primitive::<Flex>(logit_gradient) }
}

/// The tasks' sums have one order, whatever the threads.
fn sum(losses: Vec<f64>) -> Tensor<1> {
    Tensor::from_primitive::<Flex>(shaped(Shape::new([1]), vec![losses.iter().sum::<f64>() as f32]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::drawn;

    fn rows(seed: u64, range: f32) -> Vec<f32> {
        drawn::<2>(seed, [10_000, 37], -range..range).into_data().try_to_vec().expect("32-bit floats")
    }

    /// In 64 bits.
    fn forward_kl(student: &[f32], teacher: &[f32]) -> f64 {
        let log_softmax = |logits: &[f32]| {
            let log_sum = logits.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
            logits.iter().map(|logit| f64::from(*logit) - log_sum).collect::<Vec<_>>()
        };
        log_softmax(teacher).iter().zip(log_softmax(student)).map(|(p, q)| p.exp() * (p - q)).sum()
    }

    #[test]
    fn forward_kl_of_nearly_equal_rows_is_not_negative_and_keeps_three_digits() {
        for magnitude in [1e-2, 1e-3, 1e-6] {
            let (mut student, nudges) = (rows(5, 4.0), rows(6, magnitude));
            let teacher: Vec<f32> = student.iter().zip(&nudges).map(|(logit, by)| logit + by).collect();
            for (student, teacher) in student.chunks_mut(37).zip(teacher.chunks(37)) {
                let expected = forward_kl(student, teacher);
                let value = vectorized(|| forward_kl_row(student, teacher, (1.0, 1.0)));
                assert!(value >= 0.0, "{value}");
                // At 1e-6 the logits' last places are a third of the difference, and 64 bits are short too.
                assert!(magnitude < 1e-3 || (value / expected - 1.0).abs() < 1e-3, "{value} against {expected}");
            }
        }
    }

    #[test]
    fn forward_kl_of_a_perfect_student_is_zero_with_its_gradient() {
        let mut student = rows(5, 40.0);
        let teacher = student.clone();
        for (student, teacher) in student.chunks_mut(37).zip(teacher.chunks(37)) {
            assert_eq!(vectorized(|| forward_kl_row(student, teacher, (0.5, 2.0))), 0.0);
            assert!(student.iter().all(|entry| *entry == 0.0));
        }
    }
}
