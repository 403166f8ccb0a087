//! Forward KL from distributions over a few ids each to rows of logits on the CPU, each while its row is in the cache.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::divergence_rows::Softening;
use crate::flex::last_dimension;
use crate::label_share::{Label, LabelShare, LabelSoftmax};
use crate::level::vectorized;
use crate::loss_head::ChunkLoss;
use crate::row_losses::{chunk_loss, primitive, rows_per_task};
use crate::simd::{LANES_64, exp_shifted, exp_shifted_64, largest};

/// Distributions over a few ids each, row after row, in host memory.
#[derive(Clone, Copy, Debug)]
pub struct SparseDistributions<'a> {
    /// Row i has the entries `offsets[i]..offsets[i + 1]`: `[rows + 1]`.
    pub offsets: &'a [usize],
    /// Those of a row differ: `[entries]`.
    pub ids: &'a [u32],
    /// ln of the probability of each entry: `[entries]`.
    pub log_probabilities: &'a [f32],
    /// ln of the probability of all other ids of each row together: `[rows]`.
    pub ghost: Option<&'a [f32]>,
}

/// `KL(p ‖ q)` summed over rows, mixed with cross-entropy, and its gradient by the student's logits, which it overwrites
/// unless somebody else holds them.
///
/// p has the listed ids and, with a `ghost`, all others together; q is the student's softmax, over the same classes. What the
/// probabilities of a row miss of 1 is shared out. Only the student's logits are divided by the temperature. One exponential
/// a logit; two where the temperature is not 1 and there are labels.
///
/// # Shapes
/// - `student`: `[rows, vocab_size]`
/// - `teacher`: as many rows, of ids under `vocab_size`
///
/// # Panics
/// If [`crate::implementation_for`] the logits is not fused.
pub fn sparse_forward_kl_rows(
    student: Tensor<2>,
    teacher: SparseDistributions<'_>,
    softening: Softening,
    labels: Option<LabelShare>,
) -> ChunkLoss {
    let rows = student.dims()[0];
    let mut student = primitive(student);
    let (label_weight, labels) = LabelShare::split(labels);
    let vocab_size = last_dimension(&student);
    let row_loss = Row { softening, label_weight };
    let task = rows_per_task(vocab_size);
    let tasks = student.storage_mut::<f32>().par_chunks_mut(task * vocab_size).enumerate();
    let losses = tasks.map(|(index, logits)| {
        let (mut target, mut scratch) = (Target::default(), Vec::new());
        vectorized(
            #[inline(always)]
            || {
                // A `for`: the folds of iterators are functions of their own, without the instructions of this one.
                let mut value = 0.0;
                for (row, logits) in (index * task..rows).zip(logits.chunks_mut(vocab_size)) {
                    target.read(teacher, row);
                    let label = labels.as_ref().map(|labels| Label::of(logits, labels[row]));
                    value += row_loss.of(logits, &mut target, label, &mut scratch);
                }
                value
            },
        )
    });
    chunk_loss(losses.collect(), student)
}

struct Row {
    softening: Softening,
    label_weight: f64,
}

/// A row of the teacher, with the student's logits of its ids: a column a property, for vector instructions.
#[derive(Default)]
struct Target {
    ids: Vec<usize>,
    /// The teacher's.
    probabilities: Vec<f64>,
    log_probabilities: Vec<f64>,
    /// The student's, divided by the temperature.
    logits: Vec<f64>,
    /// exp(logit) over the largest of all ids.
    exponentials: Vec<f64>,
    /// The teacher's probability of all other ids.
    ghost: f64,
}

impl Target {
    #[inline(always)]
    fn read(&mut self, teacher: SparseDistributions<'_>, row: usize) {
        let entries = teacher.offsets[row]..teacher.offsets[row + 1];
        self.ids.clear();
        self.ids.extend(teacher.ids[entries.clone()].iter().map(|id| *id as usize));
        self.log_probabilities.clear();
        self.log_probabilities.extend(teacher.log_probabilities[entries].iter().map(|value| f64::from(*value)));
        self.ghost = teacher.ghost.map_or(0.0, |ghost| f64::from(ghost[row]).exp());
        let mass = self.ghost + exp_shifted_64(&self.log_probabilities, 0.0, &mut self.probabilities);
        let (share, log_mass) = (mass.recip(), mass.ln());
        self.ghost *= share;
        self.probabilities.iter_mut().for_each(|probability| *probability *= share);
        self.log_probabilities.iter_mut().for_each(|logarithm| *logarithm -= log_mass);
    }
}

impl Row {
    /// The value; the logits become the gradient.
    #[inline(always)]
    fn of(&self, logits: &mut [f32], target: &mut Target, label: Option<Label>, exponentials: &mut Vec<f32>) -> f64 {
        let Softening { temperature, scale } = self.softening;
        let scale = (1.0 - self.label_weight) * scale;
        let apart = match label {
            Some(_) if temperature != 1.0 => Some(LabelSoftmax::of(logits, exponentials)),
            _ => None,
        };
        if temperature != 1.0 {
            let inverse = temperature.recip() as f32;
            logits.iter_mut().for_each(|logit| *logit *= inverse);
        }
        let softmax = Softmax::of(logits, target);
        let value = scale * softmax.divergence(target);
        let teacher_weight = scale / temperature;
        let Some(label) = label else {
            softmax.write_gradient(logits, target, teacher_weight, teacher_weight);
            return value;
        };
        let log_sum = match apart {
            Some(apart) => {
                softmax.write_gradient(logits, target, teacher_weight, teacher_weight);
                apart.add(logits, exponentials, self.label_weight);
                apart.log_sum
            }
            None => {
                softmax.write_gradient(logits, target, teacher_weight + self.label_weight, teacher_weight);
                softmax.log_sum
            }
        };
        logits[label.id] -= self.label_weight as f32;
        value + self.label_weight * (log_sum - label.logit)
    }
}

/// The student's softmax; its logits are exponentials over `shift` by now, 0 for the listed ids.
struct Softmax {
    /// ln Σ exp over all ids.
    log_sum: f64,
    /// Turns the entries' exponentials into probabilities.
    share: f64,
    /// ln Σ exp over those that are not listed, `-∞` if there are none.
    log_rest: f64,
    /// What the exponentials are relative to.
    shift: f64,
}

impl Softmax {
    /// The rest is summed up by itself: subtracted from 1, a small one would be lost.
    #[inline(always)]
    fn of(logits: &mut [f32], target: &mut Target) -> Self {
        // Reads the row in order: the listed logits, here and there in it, would each be waited for.
        let most = f64::from(largest(logits));
        target.logits.clear();
        target.logits.extend(target.ids.iter().map(|id| f64::from(logits[*id])));
        target.ids.iter().for_each(|id| logits[*id] = f32::NEG_INFINITY);
        let shift = largest(logits);
        let log_rest = if shift == f32::NEG_INFINITY {
            logits.fill(0.0);
            f64::NEG_INFINITY
        } else {
            let sum = exp_shifted(logits, shift);
            // The listed ones are as small as an exponential gets. Multiplied, they would be too small for a normal number,
            // and a processor takes a hundred times as long for those.
            target.ids.iter().for_each(|id| logits[*id] = 0.0);
            f64::from(shift) + f64::from(sum).ln()
        };
        let sum = (log_rest - most).exp() + exp_shifted_64(&target.logits, most, &mut target.exponentials);
        Self { log_sum: most + sum.ln(), share: sum.recip(), log_rest, shift: f64::from(shift) }
    }

    /// Without a rest there is no class for the ghost.
    #[inline(always)]
    fn divergence(&self, target: &Target) -> f64 {
        let mut value = 0.0;
        if target.ghost > 0.0 && self.log_rest > f64::NEG_INFINITY {
            value += target.ghost * (target.ghost.ln() - (self.log_rest - self.log_sum));
        }
        let mut lanes = [0.0; LANES_64];
        let columns = target.probabilities.iter().zip(&target.log_probabilities).zip(&target.logits);
        for (index, ((probability, log_probability), logit)) in columns.enumerate() {
            lanes[index % LANES_64] += probability * (log_probability - (logit - self.log_sum));
        }
        value + lanes.iter().sum::<f64>()
    }

    /// `student_weight · q - teacher_weight · p`, the ghost shared out in proportion to q.
    #[inline(always)]
    fn write_gradient(&self, exponentials: &mut [f32], target: &Target, student_weight: f64, teacher_weight: f64) {
        if self.log_rest > f64::NEG_INFINITY {
            let student = (self.shift - self.log_sum).exp();
            let teacher = target.ghost * (self.shift - self.log_rest).exp();
            let factor = (student_weight * student - teacher_weight * teacher) as f32;
            exponentials.iter_mut().for_each(|value| *value *= factor);
        }
        let columns = target.ids.iter().zip(&target.probabilities).zip(&target.exponentials);
        for ((id, probability), exponential) in columns {
            let student = exponential * self.share;
            exponentials[*id] = (student_weight * student - teacher_weight * probability) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::drawn;
    use burn::tensor::Device;
    use proptest::prelude::*;

    /// Those that the teacher lists, of at least 8.
    fn ids(vocab_size: usize) -> [u32; 4] {
        [3, 0, vocab_size as u32 - 1, 5]
    }

    struct Case {
        temperature: f64,
        label_weight: f64,
        ghost: f64,
    }

    /// Logarithms of the listed ids' probabilities and, last, of the ghost's.
    fn teacher(case: &Case) -> Vec<f64> {
        let listed = [0.5, 0.25, 0.125, 0.125].map(|share: f64| (share * (1.0 - case.ghost)).ln());
        listed.into_iter().chain([case.ghost.ln()]).collect()
    }

    fn numbers(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_to_vec().expect("32-bit floats")
    }

    /// In 64 bits: the value, and the gradient as central differences of it for the ids in question.
    fn expected(case: &Case, logits: &[f32], label: usize) -> (f64, impl Fn(usize) -> f64) {
        let ids = ids(logits.len());
        let (temperature, weight) = (case.temperature, case.label_weight);
        let teacher = teacher(case);
        let logits: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
        let value = move |logits: &[f64]| {
            let log_sum = |keep: &dyn Fn(usize) -> bool, temperature: f64| {
                let kept = logits.iter().enumerate().filter(|(id, _)| keep(*id));
                kept.map(|(_, logit)| (logit / temperature).exp()).sum::<f64>().ln()
            };
            let all = log_sum(&|_| true, temperature);
            let listed = |id: usize| ids.contains(&(id as u32));
            let rest = log_sum(&|id| !listed(id), temperature) - all;
            let student = ids.iter().map(|id| logits[*id as usize] / temperature - all).chain([rest]);
            let terms = teacher.iter().zip(student).filter(|(p, _)| p.is_finite());
            let divergence: f64 = terms.map(|(p, q)| p.exp() * (p - q)).sum();
            (1.0 - weight) * 3.0 * divergence + weight * (log_sum(&|_| true, 1.0) - logits[label])
        };
        let at = value(&logits);
        let slope = move |id: usize| {
            let moved = |by: f64| {
                let mut logits = logits.clone();
                logits[id] += by;
                value(&logits)
            };
            (moved(1e-4) - moved(-1e-4)) / 2e-4
        };
        (at, slope)
    }

    #[test]
    fn value_and_gradient_are_those_of_the_definition_in_64_bits() {
        // More rows than a task has.
        check(7, 12_345, 1e-6);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn so_they_are_at_any_size(rows in 1usize..9, vocab_size in 8usize..200) {
            // Gradients of a few tokens are up to 6.
            check(rows, vocab_size, 6e-6);
        }
    }

    fn check(rows: usize, vocab_size: usize, tolerance: f64) {
        let (device, ids) = (Device::flex(), ids(vocab_size));
        for (temperature, label_weight, ghost) in
            [(1.0, 0.0, 0.0), (1.0, 0.25, 0.0), (1.0, 0.25, 0.1), (2.0, 0.0, 0.1), (2.0, 0.25, 0.1), (0.5, 0.25, 0.0)]
        {
            let case = Case { temperature, label_weight, ghost };
            let student = drawn::<2>(1, [rows, vocab_size], -3.0..3.0);
            let log_probabilities: Vec<f32> = teacher(&case).into_iter().take(4).map(|p| p as f32).collect();
            let ghost_of_rows = vec![ghost.ln() as f32; rows];
            let offsets: Vec<usize> = (0..=rows).map(|row| row * ids.len()).collect();
            let teacher = SparseDistributions {
                offsets: &offsets,
                ids: &ids.repeat(rows),
                log_probabilities: &log_probabilities.repeat(rows),
                ghost: (ghost > 0.0).then_some(&ghost_of_rows),
            };
            let labels: Vec<i32> = (0..rows).map(|row| [3, vocab_size as i32 / 2][row % 2]).collect();
            let loss = sparse_forward_kl_rows(
                student.clone(),
                teacher,
                Softening { temperature, scale: 3.0 },
                (label_weight > 0.0)
                    .then(|| LabelShare { weight: label_weight, targets: Tensor::from_ints(&labels[..], &device) }),
            );
            let (student, gradient) = (numbers(student), numbers(loss.logit_gradient));
            let mut value = 0.0;
            for (row, label) in labels.iter().enumerate() {
                let range = row * vocab_size..(row + 1) * vocab_size;
                let (at, slope) = expected(&case, &student[range.clone()], *label as usize);
                value += at;
                for id in [3, 0, vocab_size - 1, 5, vocab_size / 2, vocab_size / 2 + 1, vocab_size / 3] {
                    let (actual, expected) = (f64::from(gradient[range.start + id]), slope(id));
                    assert!(
                        (actual - expected).abs() < tolerance,
                        "{temperature} {label_weight} {ghost}: {id}: {actual} {expected}"
                    );
                }
            }
            let seen = f64::from(loss.loss_sum.into_scalar::<f32>());
            assert!(
                (seen / value - 1.0).abs() < tolerance,
                "{temperature} {label_weight} {ghost}: {seen} against {value}"
            );
        }
    }
}
