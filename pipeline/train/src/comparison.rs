//! What a model says of held-out data, beside its teacher.

use burn::tensor::Tensor;
use limbeck_data::{Batch, Mixture};
use limbeck_kernels::{Precision, linear, loss_head_value};
use limbeck_loss::{DivergenceLoss, cross_entropy_sum};
use limbeck_model::Transformer;
use serde::{Deserialize, Serialize};

use crate::objective::TargetRows;

/// Bins of the calibration error.
const BINS: usize = 15;

/// A model on all entries of held-out data together, in 32-bit floats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Comparison {
    /// Targets.
    pub target_tokens: u64,
    /// Cross-entropy, mean over the targets.
    pub loss_nats: f64,
    /// The same over the bytes of the text.
    pub bits_per_byte: f64,
    /// Share of the targets for which the model's most probable token is the teacher's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// KL(teacher ‖ model), mean over the targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_nats: Option<f64>,
    /// Expected calibration error of the most probable token, in 15 bins of equal width (Guo et al. 2017, arXiv:1706.04599).
    pub calibration_error: f64,
}

/// Sums over targets.
#[derive(Default)]
struct Sums {
    targets: u64,
    nats: f64,
    kl_nats: f64,
    agreeing: u64,
    bins: [Bin; BINS],
}

#[derive(Clone, Copy, Default)]
struct Bin {
    correct: u64,
    confidence: f64,
}

/// Compares each of `models` with `teacher`, if there is one, on every entry of `data`, each segment once; the teacher's own
/// comparison, without agreement and KL, comes last. A batch's forward pass of the teacher serves them all.
pub fn compare(
    models: &[&Transformer],
    teacher: Option<&Transformer>,
    data: &Mixture,
    rows_per_batch: usize,
) -> Vec<Comparison> {
    let exact = |model: &Transformer| model.clone().without_autodiff().with_precision(Precision::Fp32);
    let models: Vec<Transformer> = models.iter().map(|model| exact(model)).collect();
    let teacher = teacher.map(exact);
    let mut sums: Vec<Sums> = models.iter().chain(&teacher).map(|_| Sums::default()).collect();
    let mut bytes = 0;
    for entry in data.evaluation(rows_per_batch) {
        bytes += entry.scored_bytes;
        for batch in entry.batches {
            let heads: Vec<Head> = models.iter().chain(&teacher).map(|model| Head::of(model, &batch)).collect();
            let taught = teacher.as_ref().and(heads.last());
            for (index, (sums, head)) in sums.iter_mut().zip(&heads).enumerate() {
                sums.add(head, taught.filter(|_| index < models.len()), &batch);
            }
        }
    }
    let compared = sums.iter().enumerate();
    compared.map(|(index, sums)| sums.comparison(bytes, teacher.is_some() && index < models.len())).collect()
}

/// What logits are made of.
struct Head {
    /// `[target rows, hidden_size]`
    hidden: Tensor<2>,
    /// `[vocab_size, hidden_size]`
    weight: Tensor<2>,
}

impl Head {
    fn of(model: &Transformer, batch: &Batch) -> Self {
        let rows = TargetRows::of(batch, &model.device());
        let hidden = rows.select(model.hidden(&batch.inputs, &batch.positions, batch.sequence_length));
        Self { hidden, weight: model.output_weight() }
    }
}

impl Sums {
    fn comparison(&self, bytes: u64, taught: bool) -> Comparison {
        let mean = |sum: f64| sum / self.targets.max(1) as f64;
        Comparison {
            target_tokens: self.targets,
            loss_nats: mean(self.nats),
            bits_per_byte: self.nats / std::f64::consts::LN_2 / bytes.max(1) as f64,
            agreement: taught.then(|| mean(self.agreeing as f64)),
            kl_nats: taught.then(|| mean(self.kl_nats)),
            calibration_error: mean(self.bins.iter().map(|bin| (bin.confidence - bin.correct as f64).abs()).sum()),
        }
    }

    fn add(&mut self, head: &Head, taught: Option<&Head>, batch: &Batch) {
        let device = head.hidden.device();
        let rows = TargetRows::of(batch, &device);
        let zero = Tensor::zeros([1], &device);
        loss_head_value(head.hidden.clone(), head.weight.clone(), Precision::Fp32, |logits, chunk| {
            let targets = rows.targets.clone().narrow(0, chunk.start, chunk.len());
            self.nats += scalar(cross_entropy_sum(logits.clone(), targets.clone()));
            self.targets += chunk.len() as u64;
            let (largest, best) = logits.clone().max_dim_with_indices(1); // [chunk, 1] each
            let confidence = (logits.clone() - largest).exp().sum_dim(1).recip();
            let best: Vec<i64> = best.into_data().iter().collect();
            self.calibrate(confidence, best.iter().zip(targets.into_data().iter::<i64>()).map(|(a, b)| *a == b));
            if let Some(Head { hidden, weight }) = taught {
                // Rows that only pad one of the two vocabularies have no part in it.
                let vocab_size = weight.dims()[0].min(logits.dims()[1]);
                let hidden = hidden.clone().narrow(0, chunk.start, chunk.len());
                let taught = linear(hidden, weight.clone().narrow(0, 0, vocab_size), Precision::Fp32);
                let teachers: Vec<i64> = taught.clone().argmax(1).into_data().iter().collect();
                self.agreeing += best.iter().zip(teachers).filter(|(own, teachers)| **own == *teachers).count() as u64;
                let loss = DivergenceLoss::forward_kl().dense(logits.narrow(1, 0, vocab_size), taught);
                self.kl_nats += scalar(loss.loss_sum);
            }
            zero.clone()
        });
    }

    fn calibrate(&mut self, confidence: Tensor<2>, correct: impl Iterator<Item = bool>) {
        for (confidence, correct) in confidence.into_data().iter::<f64>().zip(correct) {
            let bin = &mut self.bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
            bin.correct += u64::from(correct);
            bin.confidence += confidence;
        }
    }
}

fn scalar(sum: Tensor<1>) -> f64 {
    f64::from(sum.into_scalar::<f32>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// By hand: of two targets in one bin, at 0.9 and 0.88, one is right, |1.78 - 1| = 0.78; alone at 0.3 one is wrong,
    /// 0.3; a certain one is right, 0. Over 4 targets 0.27.
    #[test]
    fn the_calibration_error_is_that_of_the_bins() {
        let mut sums = Sums { targets: 4, ..Sums::default() };
        let confidence = Tensor::from_floats([[0.9], [0.3], [0.88], [1.0]], &Device::flex());
        sums.calibrate(confidence, [true, false, false, true].into_iter());
        let error = sums.comparison(1, false).calibration_error;
        assert!((error - 0.27).abs() < 1e-7, "{error}");
    }
}
