//! Divergences between two models' rows of logits on the CPU, each while its rows are in the cache.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::flex::{last_dimension, unwritten, values};
use crate::label_share::{Label, LabelShare, LabelSoftmax};
use crate::level::vectorized;
use crate::loss_head::ChunkLoss;
use crate::row_losses::{chunk_loss, primitive, rows_per_task};
use crate::simd::{LANES, exp, largest};

/// What is done to logits before the softmax, and to the divergence after.
#[derive(Clone, Copy, Debug)]
pub struct Softening {
    /// Divides the logits.
    pub temperature: f64,
    /// Multiplies the divergence.
    pub scale: f64,
}

/// The divergence that `terms` defines, summed over classes and rows, and its gradient by the student's logits, which it
/// overwrites unless somebody else holds them.
///
/// `terms(q, p, ln(q / p))` gives what a class with the probabilities q of the student and p of the teacher adds to the value,
/// and its slope, q times the derivative by q; both 0 where q and p are. It must be `#[inline(always)]` like everything that
/// it calls. `slopes_cancel` says that the slopes of every row add up to 0. With `labels`, cross-entropy, at temperature 1, is
/// mixed in: without another exponential where the divergence has that temperature too.
///
/// # Shapes
/// - `student`, `teacher`: `[rows, vocab_size]`
///
/// # Panics
/// If [`crate::implementation_for`] the logits is not fused.
pub fn divergence_rows(
    student: Tensor<2>,
    teacher: Tensor<2>,
    softening: Softening,
    slopes_cancel: bool,
    labels: Option<LabelShare>,
    terms: impl Fn(f32, f32, f32) -> (f32, f32) + Sync,
) -> ChunkLoss {
    let (mut student, teacher) = (primitive(student), primitive(teacher));
    let (label_weight, labels) = LabelShare::split(labels);
    let vocab_size = last_dimension(&student);
    let rows = rows_per_task(vocab_size);
    let task = rows * vocab_size;
    let scale = softening.scale * (1.0 - label_weight);
    let row = Row {
        inverse_temperature: softening.temperature.recip() as f32,
        gradient_scale: (scale / softening.temperature) as f32,
        scale,
        label_weight,
        slopes_cancel,
        terms,
    };
    let tasks = student.storage_mut::<f32>().par_chunks_mut(task).zip(values(&teacher).par_chunks(task));
    let losses = tasks.enumerate().map(|(index, (student, teacher))| {
        let mut exponentials = (unwritten(vocab_size), unwritten(vocab_size));
        let mut labels = labels.iter().flatten().skip(index * rows);
        let mut label_exponentials = Vec::new();
        vectorized(
            #[inline(always)]
            || {
                // A `for`: the folds of iterators are functions of their own, without the instructions of this one.
                let mut value = 0.0;
                for (student, teacher) in student.chunks_mut(vocab_size).zip(teacher.chunks(vocab_size)) {
                    let label = labels.next().map(|label| Label::of(student, *label));
                    value += row.of(student, teacher, label, &mut exponentials, &mut label_exponentials);
                }
                value
            },
        )
    });
    chunk_loss(losses.collect(), student)
}

struct Row<Terms> {
    inverse_temperature: f32,
    gradient_scale: f32,
    scale: f64,
    label_weight: f64,
    slopes_cancel: bool,
    terms: Terms,
}

/// A row's softmax: `exp((logit - shift) / T) · share`.
#[derive(Clone, Copy)]
struct Softmax {
    shift: f32,
    sum: f32,
    share: f32,
}

/// Of the student, of the teacher, and the logarithm of the first's sum over the second's.
#[derive(Clone, Copy)]
struct Both {
    q: Softmax,
    p: Softmax,
    log_sums: f32,
}

type Lanes = [f32; LANES];

/// What is added up over a row.
struct Sums {
    values: Lanes,
    slopes: Lanes,
}

impl<Terms: Fn(f32, f32, f32) -> (f32, f32)> Row<Terms> {
    /// The value; the student's logits become the gradient.
    #[inline(always)]
    fn of(
        &self,
        student: &mut [f32],
        teacher: &[f32],
        label: Option<Label>,
        exponentials: &mut (Vec<f32>, Vec<f32>),
        label_exponentials: &mut Vec<f32>,
    ) -> f64 {
        let apart = match label {
            Some(_) if self.inverse_temperature != 1.0 => Some(LabelSoftmax::of(student, label_exponentials)),
            _ => None,
        };
        let (q, p) = (self.softmax(student, &mut exponentials.0), self.softmax(teacher, &mut exponentials.1));
        let both = Both { q, p, log_sums: (f64::from(q.sum) / f64::from(p.sum)).ln() as f32 };
        let mut sums = Sums { values: [0.0; LANES], slopes: [0.0; LANES] };
        let (students, student_rest) = student.as_chunks_mut();
        let (teachers, teacher_rest) = teacher.as_chunks();
        let (e_qs, e_q_rest) = exponentials.0.as_chunks_mut();
        let (e_ps, e_p_rest) = exponentials.1.as_chunks();
        for (((student, teacher), e_q), e_p) in students.iter_mut().zip(teachers).zip(e_qs).zip(e_ps) {
            self.block(both, (student, e_q), (teacher, e_p), &mut sums);
        }
        // Classes without probability add nothing.
        let (mut rest, mut e_q) = (padded(student_rest), padded(e_q_rest));
        self.block(both, (&mut rest, &mut e_q), (&padded(teacher_rest), &padded(e_p_rest)), &mut sums);
        student_rest.copy_from_slice(&rest[..student_rest.len()]);
        e_q_rest.copy_from_slice(&e_q[..e_q_rest.len()]);
        self.finish(student, &exponentials.0, sums.slopes.iter().sum());
        let mut value = 0.0;
        for lane in sums.values {
            value += f64::from(lane);
        }
        value *= self.scale;
        if let Some(label) = label {
            let log_sum = match &apart {
                Some(softmax) => {
                    softmax.add(student, label_exponentials, self.label_weight);
                    softmax.log_sum
                }
                None => {
                    let weight = self.label_weight as f32;
                    for (gradient, probability) in student.iter_mut().zip(&exponentials.0) {
                        *gradient += weight * probability;
                    }
                    f64::from(q.sum).ln() + f64::from(q.shift)
                }
            };
            student[label.id] -= self.label_weight as f32;
            value += self.label_weight * (log_sum - label.logit);
        }
        value
    }

    /// Logits and exponentials of both; the student's become slopes and probabilities.
    #[inline(always)]
    fn block(&self, both: Both, student: (&mut Lanes, &mut Lanes), teacher: (&Lanes, &Lanes), sums: &mut Sums) {
        let Both { q, p, log_sums } = both;
        for lane in 0..LANES {
            let probabilities = (student.1[lane] * q.share, teacher.1[lane] * p.share);
            let apart = (student.0[lane] - q.shift) - (teacher.0[lane] - p.shift);
            let log_ratio = apart * self.inverse_temperature - log_sums;
            let (value, slope) = (self.terms)(probabilities.0, probabilities.1, log_ratio);
            sums.values[lane] += value;
            sums.slopes[lane] += slope;
            (student.0[lane], student.1[lane]) = (slope, probabilities.0);
        }
    }

    /// From slopes to the gradient.
    #[inline(always)]
    fn finish(&self, slopes: &mut [f32], probabilities: &[f32], sum: f32) {
        let sum = if self.slopes_cancel { 0.0 } else { sum };
        for (slope, q) in slopes.iter_mut().zip(probabilities) {
            *slope = self.gradient_scale * (*slope - q * sum);
        }
    }

    #[inline(always)]
    fn softmax(&self, logits: &[f32], exponentials: &mut [f32]) -> Softmax {
        let shift = largest(logits);
        let mut sums = [0.0; LANES];
        let (chunks, rest) = logits.as_chunks::<LANES>();
        let (outputs, output_rest) = exponentials.as_chunks_mut::<LANES>();
        for (logits, outputs) in chunks.iter().zip(outputs) {
            for lane in 0..LANES {
                outputs[lane] = exp((logits[lane] - shift) * self.inverse_temperature);
                sums[lane] += outputs[lane];
            }
        }
        for (logit, output) in rest.iter().zip(output_rest) {
            *output = exp((logit - shift) * self.inverse_temperature);
            sums[0] += *output;
        }
        let sum = sums.iter().sum::<f32>();
        Softmax { shift, sum, share: sum.recip() }
    }
}

#[inline(always)]
fn padded(values: &[f32]) -> Lanes {
    let mut lanes = [0.0; LANES];
    lanes[..values.len()].copy_from_slice(values);
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::drawn;
    use proptest::prelude::*;

    /// Squared distance: a divergence of no other use, with the gradient 2 q (q - p - Σ q (q - p)).
    #[inline(always)]
    fn square(q: f32, p: f32, _: f32) -> (f32, f32) {
        ((q - p) * (q - p), 2.0 * q * (q - p))
    }

    /// More rows than a task has, of whole blocks and a rest.
    #[test]
    fn value_and_gradient_are_those_of_the_definition_in_64_bits() {
        check(7, 12_345);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn so_they_are_at_any_size(rows in 1usize..9, vocab_size in 2usize..200) {
            check(rows, vocab_size);
        }
    }

    fn check(rows: usize, vocab_size: usize) {
        let (temperature, scale) = (0.5, 3.0);
        let (student, teacher) =
            (drawn::<2>(1, [rows, vocab_size], -3.0..3.0), drawn::<2>(2, [rows, vocab_size], -3.0..3.0));
        let loss =
            divergence_rows(student.clone(), teacher.clone(), Softening { temperature, scale }, false, None, square);
        let softmax = |logits: &[f32]| {
            let exponentials: Vec<_> = logits.iter().map(|logit| (f64::from(*logit) / temperature).exp()).collect();
            let sum: f64 = exponentials.iter().sum();
            exponentials.iter().map(|exponential| exponential / sum).collect::<Vec<_>>()
        };
        let numbers = |tensor: Tensor<2>| tensor.into_data().try_to_vec::<f32>().expect("32-bit floats");
        let (student, teacher, gradient) = (numbers(student), numbers(teacher), numbers(loss.logit_gradient));
        let mut value = 0.0;
        for row in 0..rows {
            let row = row * vocab_size..(row + 1) * vocab_size;
            let (q, p) = (softmax(&student[row.clone()]), softmax(&teacher[row.clone()]));
            let sum: f64 = q.iter().zip(&p).map(|(q, p)| q * (q - p)).sum();
            value += q.iter().zip(&p).map(|(q, p)| (q - p) * (q - p)).sum::<f64>();
            for ((q, p), gradient) in q.iter().zip(&p).zip(&gradient[row]) {
                let expected = scale / temperature * 2.0 * q * (q - p - sum);
                assert!((f64::from(*gradient) - expected).abs() < 1e-5 * q, "{gradient} against {expected}");
            }
        }
        let seen = loss.loss_sum.into_scalar::<f32>();
        assert!((f64::from(seen) / (scale * value) - 1.0).abs() < 1e-5, "{seen} against {}", scale * value);
    }

    #[test]
    fn what_somebody_else_holds_is_not_overwritten() {
        let logits = drawn::<2>(3, [2, 5], -1.0..1.0);
        let before = logits.clone().into_data();
        let softening = Softening { temperature: 1.0, scale: 1.0 };
        divergence_rows(logits.clone(), logits.clone(), softening, false, None, square);
        assert_eq!(logits.into_data(), before);
    }
}
